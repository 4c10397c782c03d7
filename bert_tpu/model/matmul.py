"""The products of Dense layers and of attention heads.

Where a step is made for CPUs in bfloat16, products have a form of their own, `_wide`: XLA:CPU has fast kernels for
bfloat16 matrices whose product is float32, if the left one is summed over its last dimension; any other product it
computes in float32, rounded before and after.

Letters: those of model.py, and  N rows  E heads times their width
"""

import math

import jax
import jax.numpy as jnp

PARTS = 4  # of the rows that a kernel's gradient sums: XLA:CPU's product over fewer is up to twice as fast


def dense(x, kernel_DF, bias_F):
    """[..., D] -> [..., F]."""
    if _is_wide(x):
        return _wide_dense(x, kernel_DF, bias_F)
    return matmul(x, kernel_DF) + bias_F


def to_heads(x_BLD, kernel_DE, bias_E, num_heads):
    """[B, L, D] -> [B, H, K, L]."""
    if _is_wide(x_BLD):
        y_BLE = _wide_dense(x_BLD, kernel_DE, bias_E)
        return y_BLE.reshape(*y_BLE.shape[:2], num_heads, -1).transpose(0, 2, 3, 1)
    # Tokens last: a head fills half a register's lanes, and the scores' products want tokens side by side.
    kernel_DHK = kernel_DE.reshape(len(kernel_DE), num_heads, -1)
    return jnp.einsum("BLD,DHK->BHKL", x_BLD, kernel_DHK) + bias_E.reshape(num_heads, -1, 1)


def from_heads(x_BHKL, kernel_ED, bias_D):
    """[B, H, K, L] -> [B, L, D]."""
    B, H, K, L = x_BHKL.shape
    if _is_wide(x_BHKL):
        return _wide_dense(x_BHKL.transpose(0, 3, 1, 2).reshape(B, L, H * K), kernel_ED, bias_D)
    return jnp.einsum("BHKL,HKD->BLD", x_BHKL, kernel_ED.reshape(H, K, -1)) + bias_D


def einsum(spec, x, y, dtype=None):
    """jnp.einsum of two arrays of matrices, which their same first letters number, in x's type or float32."""
    if _is_wide(x):
        return _wide(spec, x, y).astype(dtype or x.dtype)
    return jnp.einsum(spec, x, y, preferred_element_type=dtype)


@jax.custom_vjp
def matmul(x, kernel_DF):
    """[..., D] -> [..., F]."""
    return jnp.einsum("...D,DF->...F", x, kernel_DF)


def _forward(x, kernel_DF):
    return matmul(x, kernel_DF), (x, kernel_DF)


def _backward(kept, dy):
    x, kernel_DF = kept
    # All rows in one dimension: over two, XLA:CPU transposes what it sums, 1.3 times the feed-forward's time.
    x_ND, dy_NF = (y.reshape(-1, y.shape[-1]) for y in (x, dy))
    return jnp.einsum("...F,DF->...D", dy, kernel_DF), jnp.einsum("ND,NF->DF", x_ND, dy_NF)


matmul.defvjp(_forward, _backward)


def _is_wide(x):
    """Whether x is bfloat16 and the step that is being traced is one for CPUs."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return x.dtype == jnp.bfloat16 and device is not None and device.platform == "cpu"


def _dot(spec, x, y):
    """The einsum in float32; without a barrier, XLA:CPU (jaxlib 0.10.2) fails to run one that is transposed next."""
    return jax.lax.optimization_barrier(jnp.einsum(spec, x, y, preferred_element_type=jnp.float32))


@jax.custom_vjp
def _wide_dense(x, kernel_DF, bias_F):
    return _dot("...D,DF->...F", x, kernel_DF).astype(x.dtype) + bias_F


def _wide_forward(x, kernel_DF, bias_F):
    return _wide_dense(x, kernel_DF, bias_F), (x, kernel_DF)


def _wide_backward(kept, dy):
    x, kernel_DF = kept
    x_ND, dy_NF = (y.reshape(-1, y.shape[-1]) for y in (x, dy))
    dx = _dot("...F,DF->...D", dy, kernel_DF)
    # A sum over rows is a product with ones: as a reduction it takes a tenth of the step.
    dbias_F = _dot("N,NF->F", jnp.ones(len(dy_NF), dy.dtype), dy_NF)
    return tuple(grad.astype(x.dtype) for grad in (dx, _summed(x_ND, dy_NF), dbias_F))


_wide_dense.defvjp(_wide_forward, _wide_backward)


def _summed(x_ND, y_NF):
    """x^T y, [D, F]; the narrower of the two is the one that is transposed."""
    if x_ND.shape[1] > y_NF.shape[1]:
        return _summed(y_NF, x_ND).T
    parts = PARTS if len(x_ND) % PARTS == 0 else 1
    x_PDN = jax.lax.optimization_barrier(x_ND.reshape(parts, -1, x_ND.shape[1]).swapaxes(1, 2))
    y_PNF = y_NF.reshape(parts, -1, y_NF.shape[1])
    return sum(_dot("DN,NF->DF", x_DN, y_NF) for x_DN, y_NF in zip(x_PDN, y_PNF, strict=True))


def _wide(spec, x, y):
    """The einsum in float32, by whichever order of the two moves fewer numbers."""
    given, of_z = spec.split("->")
    first, of = of_z[:-2], dict(zip(given.split(","), (x, y), strict=True))
    size = {letter: n for letters, array in of.items() for letter, n in zip(letters, array.shape, strict=True)}
    (summed,) = set.intersection(*map(set, of)) - set(of_z)

    def orders(left, right):
        m, n = (set(letters) - {*first, summed} for letters in (left, right))
        return [first + "".join(last) for last in ([*m, summed], [summed, *n], [*m, *n])]

    def moved(pair):
        changed = (order for letters, order in zip((*pair, of_z), orders(*pair), strict=True) if letters != order)
        return sum(math.prod(size[letter] for letter in order) for order in changed)

    pair = min((tuple(of), tuple(of)[::-1]), key=moved)
    *operands, product = orders(*pair)
    # Behind a barrier, or XLA:CPU makes one operation of product and transposition again.
    arrays = [
        of[letters]
        if letters == order
        else jax.lax.optimization_barrier(jnp.einsum(f"{letters}->{order}", of[letters]))
        for letters, order in zip(pair, operands, strict=True)
    ]
    return jnp.einsum(f"{product}->{of_z}", _dot(f"{','.join(operands)}->{product}", *arrays))
