"""Attention over the unpadded tokens, in few passes over its scores.

Letters: B batch  H heads  L tokens  T tokens attended to  K head width
"""

import functools

import jax
import jax.numpy as jnp

from bert_tpu import dropout

MASKED_SCORE = -1e9  # exp(it - max) is exactly 0 in float32, so padding changes no real token


def attend(q_BHKL, k_BHKT, v_BHKT, mask_BT, words, rate):
    """softmax(q k^T) v, [B, H, K, L], with dropout of the probabilities where `words` are given; queries come scaled.

    Under a gradient the softmax is computed as e / sum(e), e being exp(score - the token's score with itself): a
    reference that is known before the scores, so that their product, exp and sum are one pass, where the largest
    score would take two. It is the same unless a score is more than 88 nats above the reference; then the result is
    not finite, and the training step skips. What is kept for the gradient is e alone, whose sign says whether dropout
    keeps it; the division by the sum comes after the product with v, and the softmax's gradient takes
    sum(p dp) = sum(do o) (Dao et al. 2022, arXiv:2205.14135, appendix B).
    """
    return _attend(q_BHKL, k_BHKT, v_BHKT, mask_BT, words, 0.0 if words is None else rate)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _attend(q_BHKL, k_BHKT, v_BHKT, mask_BT, words, rate):
    s_BHLT = jnp.einsum("BHKL,BHKT->BHLT", q_BHKL, k_BHKT, preferred_element_type=jnp.float32)
    p_BHLT = jax.nn.softmax(jnp.where(mask_BT[:, None, None, :], s_BHLT, MASKED_SCORE), axis=-1)
    return jnp.einsum("BHLT,BHKT->BHKL", dropout.apply(p_BHLT.astype(q_BHKL.dtype), words, rate), v_BHKT)


def _dots(x_BHKL, y_BHKL):
    return jnp.sum(x_BHKL.astype(jnp.float32) * y_BHKL.astype(jnp.float32), axis=2)


def _forward(q_BHKL, k_BHKT, v_BHKT, mask_BT, words, rate):
    self_BHL = _dots(q_BHKL, k_BHKT)
    s_BHLT = jnp.einsum("BHKL,BHKT->BHLT", q_BHKL, k_BHKT, preferred_element_type=jnp.float32)
    e_BHLT = jnp.exp(s_BHLT - self_BHL[..., None])
    e_BHLT = jnp.where(mask_BT[:, None, None, :], e_BHLT, 0.0)
    scale_BHL = 1.0 / (jnp.sum(e_BHLT, axis=-1) + 1e-30)
    if rate:
        e_BHLT = jnp.where(dropout.keep_mask(words, rate), e_BHLT, -e_BHLT)
        scale_BHL /= 1.0 - rate
    e_BHLT = e_BHLT.astype(q_BHKL.dtype)
    o_BHKL = jnp.einsum("BHLT,BHKT->BHKL", jnp.maximum(e_BHLT, 0), v_BHKT, preferred_element_type=jnp.float32)
    o_BHKL = (o_BHKL * scale_BHL[:, :, None]).astype(q_BHKL.dtype)
    return o_BHKL, (q_BHKL, k_BHKT, v_BHKT, e_BHLT, scale_BHL, o_BHKL)


def _backward(rate, kept, do_BHKL):
    q_BHKL, k_BHKT, v_BHKT, e_BHLT, scale_BHL, o_BHKL = kept
    dtype = q_BHKL.dtype
    dot_BHL = _dots(do_BHKL, o_BHKL) * scale_BHL * (1.0 - rate)
    do_BHKL = (do_BHKL * scale_BHL[:, :, None]).astype(dtype)
    dv_BHKT = jnp.einsum("BHLT,BHKL->BHKT", jnp.maximum(e_BHLT, 0), do_BHKL)
    dp_BHLT = jnp.einsum("BHKL,BHKT->BHLT", do_BHKL, v_BHKT, preferred_element_type=jnp.float32)
    dot_BHL1 = dot_BHL[..., None]
    ds_BHLT = (e_BHLT * jnp.where(e_BHLT > 0, dp_BHLT - dot_BHL1, dot_BHL1)).astype(dtype)
    dq_BHKL = jnp.einsum("BHLT,BHKT->BHKL", ds_BHLT, k_BHKT)
    dk_BHKT = jnp.einsum("BHLT,BHKL->BHKT", ds_BHLT, q_BHKL)
    return dq_BHKL, dk_BHKT, dv_BHKT, None, None


_attend.defvjp(_forward, _backward)
