"""Computes the products of Dense layers and of attention heads.

A bfloat16 step for CPUs computes its products by `_wide`. XLA:CPU has fast kernels for bfloat16 matrices whose product
is float32, if the left one is summed over its last dimension. It computes any other product in float32, rounded before
and after.

Letters: those of transformer.py, and  N rows  A heads times their width
"""

import math
import typing

import jax
import jax.numpy as jnp

PARTS = 4  # a kernel's gradient sums rows in parts: XLA:CPU's product over fewer rows is up to twice as fast


def dense(x: jax.Array, kernel_DF: jax.Array, bias_F: jax.Array) -> jax.Array:
    """Returns x kernel + bias, [..., D] -> [..., F]."""
    if _is_wide(x):
        return _wide_dense(x, kernel_DF, bias_F)
    return matmul(x, kernel_DF) + bias_F


def to_heads(x_BLD: jax.Array, kernel_DA: jax.Array, bias_A: jax.Array, num_heads: int) -> jax.Array:
    """Returns x kernel + bias split into heads, [B, L, D] -> [B, H, K, L]."""
    if _is_wide(x_BLD):
        y_BLA = _wide_dense(x_BLD, kernel_DA, bias_A)
        return y_BLA.reshape(*y_BLA.shape[:2], num_heads, -1).transpose(0, 2, 3, 1)
    # Tokens last: a head fills half a register's lanes, and the scores' products want tokens side by side. All heads
    # in one dimension, or XLA:TPU copies the kernels.
    y_BAL = jnp.einsum("BLD,DA->BAL", x_BLD, kernel_DA) + bias_A[:, None]
    return y_BAL.reshape(len(y_BAL), num_heads, -1, y_BAL.shape[2])


def from_heads(x_BHKL: jax.Array, kernel_AD: jax.Array, bias_D: jax.Array) -> jax.Array:
    """Joins the heads and returns x kernel + bias, [B, H, K, L] -> [B, L, D]."""
    B, H, K, L = x_BHKL.shape
    if _is_wide(x_BHKL):
        return _wide_dense(x_BHKL.transpose(0, 3, 1, 2).reshape(B, L, H * K), kernel_AD, bias_D)
    return jnp.einsum("BHKL,HKD->BLD", x_BHKL, kernel_AD.reshape(H, K, -1)) + bias_D


def einsum(spec: str, x: jax.Array, y: jax.Array, dtype: jax.typing.DTypeLike | None = None) -> jax.Array:
    """Returns jnp.einsum of two arrays of matrices, in x's type or `dtype`. Their first letters must be the same."""
    if _is_wide(x):
        return _wide(spec, x, y).astype(dtype or x.dtype)
    return jnp.einsum(spec, x, y, preferred_element_type=dtype)


def over_rows(x_ND: jax.Array, y_NF: jax.Array) -> jax.Array:
    """Returns x^T y, float32 [D, F]."""
    if _is_wide(x_ND):
        return _sum_over_rows(x_ND, y_NF)
    return jnp.einsum("ND,NF->DF", x_ND, y_NF, preferred_element_type=jnp.float32)


@jax.custom_vjp
def matmul(x: jax.Array, kernel_DF: jax.Array) -> jax.Array:
    """Returns x kernel, [..., D] -> [..., F]."""
    return jnp.einsum("...D,DF->...F", x, kernel_DF)


def _forward(x: jax.Array, kernel_DF: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return matmul(x, kernel_DF), (x, kernel_DF)


def _backward(residuals: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel_DF = residuals
    # All rows in one dimension: over two, XLA:CPU transposes the operands, 1.3 times the feed-forward's time.
    x_ND, dy_NF = (y.reshape(-1, y.shape[-1]) for y in (x, dy))
    return jnp.einsum("...F,DF->...D", dy, kernel_DF), jnp.einsum("ND,NF->DF", x_ND, dy_NF)


matmul.defvjp(_forward, _backward)


def _is_wide(x: jax.Array) -> bool:
    """True if x is bfloat16 and the step that is being traced is for CPUs."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return x.dtype == jnp.bfloat16 and device is not None and device.platform == "cpu"


def _dot(spec: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the einsum in float32.

    Without the barrier, XLA:CPU (jaxlib 0.10.2) fails to run an einsum that is transposed next.
    """
    return jax.lax.optimization_barrier(jnp.einsum(spec, x, y, preferred_element_type=jnp.float32))


@jax.custom_vjp
def _wide_dense(x: jax.Array, kernel_DF: jax.Array, bias_F: jax.Array) -> jax.Array:
    return _dot("...D,DF->...F", x, kernel_DF).astype(x.dtype) + bias_F


def _wide_forward(
    x: jax.Array, kernel_DF: jax.Array, bias_F: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _wide_dense(x, kernel_DF, bias_F), (x, kernel_DF)


def _wide_backward(residuals: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, ...]:
    x, kernel_DF = residuals
    x_ND, dy_NF = (y.reshape(-1, y.shape[-1]) for y in (x, dy))
    dx = _dot("...F,DF->...D", dy, kernel_DF)
    # A sum over rows is a product with ones: as a reduction it takes a tenth of the step.
    dbias_F = _dot("N,NF->F", jnp.ones(len(dy_NF), dy.dtype), dy_NF)
    return tuple(grad.astype(x.dtype) for grad in (dx, _sum_over_rows(x_ND, dy_NF), dbias_F))


_wide_dense.defvjp(_wide_forward, _wide_backward)


def _sum_over_rows(x_ND: jax.Array, y_NF: jax.Array) -> jax.Array:
    """Returns x^T y, [D, F]. It transposes the narrower of the two."""
    if x_ND.shape[1] > y_NF.shape[1]:
        return _sum_over_rows(y_NF, x_ND).T
    parts = PARTS if len(x_ND) % PARTS == 0 else 1
    x_PDN = jax.lax.optimization_barrier(x_ND.reshape(parts, -1, x_ND.shape[1]).swapaxes(1, 2))
    y_PNF = y_NF.reshape(parts, -1, y_NF.shape[1])
    products = (_dot("DN,NF->DF", x_DN, y_NF) for x_DN, y_NF in zip(x_PDN, y_PNF, strict=True))
    return typing.cast(jax.Array, sum(products))


def _wide(spec: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """Returns the einsum in float32. Of the two orders of x and y it takes the one that moves fewer numbers."""
    inputs, output = spec.split("->")
    first, arrays = output[:-2], dict(zip(inputs.split(","), (x, y), strict=True))
    size = {letter: n for letters, array in arrays.items() for letter, n in zip(letters, array.shape, strict=True)}
    (summed,) = set.intersection(*map(set, arrays)) - set(output)

    def orders(left: str, right: str) -> list[str]:
        """Returns the letters of left, right and product in the order of the fast kernels."""
        m, n = (set(letters) - {*first, summed} for letters in (left, right))
        return [first + "".join(last) for last in ([*m, summed], [summed, *n], [*m, *n])]

    def moved(pair: tuple[str, str]) -> int:
        """Counts the numbers in arrays that must be transposed."""
        changed = (order for letters, order in zip((*pair, output), orders(*pair), strict=True) if letters != order)
        return sum(math.prod(size[letter] for letter in order) for order in changed)

    left, right = arrays
    pair = min(((left, right), (right, left)), key=moved)
    *orders_in, product = orders(*pair)
    # After a barrier, or XLA:CPU would merge product and transposition again.
    x, y = (
        arrays[letters]
        if letters == order
        else jax.lax.optimization_barrier(jnp.einsum(f"{letters}->{order}", arrays[letters]))
        for letters, order in zip(pair, orders_in, strict=True)
    )
    return jnp.einsum(f"{product}->{output}", _dot(f"{','.join(orders_in)}->{product}", x, y))
