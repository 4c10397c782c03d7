"""Attention over the unpadded tokens, in few passes over its scores.

Letters: B batch  H heads  L tokens  T tokens attended to  K head width
"""

import functools

import jax
import jax.numpy as jnp

from bert_tpu.model import dropout, matmul

MASKED_SCORE = float(jnp.finfo(jnp.float32).min)  # exp(it - max) is exactly 0, so padding changes no real token

# q_BHKL, k_BHKT, v_BHKT, e_BHLT, scale_BHL, o_BHKL
Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


def attend(
    q_BHKL: jax.Array,
    k_BHKT: jax.Array,
    v_BHKT: jax.Array,
    mask_B1LT: jax.Array,
    bits: dropout.Bits | None,
    rate: float,
) -> jax.Array:
    """Returns softmax(q k^T) v, [B, H, K, L].

    The result at a token that attends to none is of no use, but finite: under a gradient 0, and so are its gradients.

    Under a gradient the softmax is e / sum(e), where e is exp(score - the token's largest). Only e is stored for the
    gradient; its sign says whether dropout keeps it. The division by the sum comes after the product with v, and the
    softmax's gradient takes sum(p dp) = sum(do o) (Dao et al. 2022, arXiv:2205.14135, appendix B).

    q_BHKL: queries, already scaled
    k_BHKT, v_BHKT: keys and values
    mask_B1LT: bool, True where a token attends to another; L is 1 if all tokens of a row attend to the same
    bits: for dropout of the probabilities, or None
    rate: of dropout
    """
    return _softmax(q_BHKL, k_BHKT, v_BHKT, mask_B1LT, bits, 0.0 if bits is None else rate)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _softmax(
    q_BHKL: jax.Array,
    k_BHKT: jax.Array,
    v_BHKT: jax.Array,
    mask_B1LT: jax.Array,
    bits: dropout.Bits | None,
    rate: float,
) -> jax.Array:
    s_BHLT = matmul.einsum("BHKL,BHKT->BHLT", q_BHKL, k_BHKT, jnp.float32)
    p_BHLT = jax.nn.softmax(jnp.where(mask_B1LT, s_BHLT, MASKED_SCORE), axis=-1)
    return matmul.einsum("BHLT,BHKT->BHKL", dropout.apply(p_BHLT.astype(q_BHKL.dtype), bits, rate), v_BHKT)


def _forward(
    q_BHKL: jax.Array,
    k_BHKT: jax.Array,
    v_BHKT: jax.Array,
    mask_B1LT: jax.Array,
    bits: dropout.Bits | None,
    rate: float,
) -> tuple[jax.Array, Residuals]:
    s_BHLT = matmul.einsum("BHKL,BHKT->BHLT", q_BHKL, k_BHKT, jnp.float32)
    largest_BHL = jnp.max(jnp.where(mask_B1LT, s_BHLT, MASKED_SCORE), axis=-1)
    e_BHLT = jnp.where(mask_B1LT, jnp.exp(s_BHLT - largest_BHL[..., None]), 0.0)
    # The sum is from 1 to T. It is NaN if a score is NaN or inf, and 0 if all are -inf; then 0 x inf is NaN below.
    scale_BHL = jnp.where(jnp.any(mask_B1LT, axis=-1), 1.0 / jnp.sum(e_BHLT, axis=-1), 0.0)
    if rate and bits is not None:
        e_BHLT = jnp.where(dropout.keep_mask(bits, rate), e_BHLT, -e_BHLT)
        scale_BHL /= 1.0 - rate
    e_BHLT = e_BHLT.astype(q_BHKL.dtype)
    o_BHKL = matmul.einsum("BHLT,BHKT->BHKL", jnp.maximum(e_BHLT, 0), v_BHKT, jnp.float32)
    o_BHKL = (o_BHKL * scale_BHL[:, :, None]).astype(q_BHKL.dtype)
    return o_BHKL, (q_BHKL, k_BHKT, v_BHKT, e_BHLT, scale_BHL, o_BHKL)


def _backward(
    rate: float, residuals: Residuals, do_BHKL: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None, None]:
    q_BHKL, k_BHKT, v_BHKT, e_BHLT, scale_BHL, o_BHKL = residuals
    dtype = q_BHKL.dtype
    dot_BHL = jnp.sum(do_BHKL.astype(jnp.float32) * o_BHKL.astype(jnp.float32), axis=2) * scale_BHL * (1.0 - rate)
    do_BHKL = (do_BHKL * scale_BHL[:, :, None]).astype(dtype)
    dv_BHKT = matmul.einsum("BHLT,BHKL->BHKT", jnp.maximum(e_BHLT, 0), do_BHKL)
    dp_BHLT = matmul.einsum("BHKL,BHKT->BHLT", do_BHKL, v_BHKT, jnp.float32)
    dot_BHL1 = dot_BHL[..., None]
    ds_BHLT = (e_BHLT * jnp.where(e_BHLT > 0, dp_BHLT - dot_BHL1, dot_BHL1)).astype(dtype)
    dq_BHKL = matmul.einsum("BHLT,BHKT->BHKL", ds_BHLT, k_BHKT)
    dk_BHKT = matmul.einsum("BHLT,BHKL->BHKT", ds_BHLT, q_BHKL)
    return dq_BHKL, dk_BHKT, dv_BHKT, None, None


_softmax.defvjp(_forward, _backward)
