"""Attention over the unpadded tokens, in few passes over its scores.

Letters: B batch  H heads  L tokens  T tokens attended to  K head width
"""

import functools

import jax
import jax.numpy as jnp

from bert_tpu import dropout

LARGEST = 70.0  # nats; exp of it times a row of scores is far from float32's end


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def attend(q_BHLK, k_BHTK, v_BHTK, mask_BT, words, rate):
    """softmax(q k^T) v, with dropout of the probabilities where `words` are given; queries come scaled. [B, H, L, K]."""
    return _forward(q_BHLK, k_BHTK, v_BHTK, mask_BT, words, rate)[0]


def _forward(q_BHLK, k_BHTK, v_BHTK, mask_BT, words, rate):
    self_BHL = _dots(q_BHLK, k_BHTK)
    s_BHLT = jnp.einsum("BHLK,BHTK->BHLT", q_BHLK, k_BHTK, preferred_element_type=jnp.float32)
    e_BHLT = jnp.exp(jnp.minimum(s_BHLT - self_BHL[..., None], LARGEST))
    e_BHLT = jnp.where(mask_BT[:, None, None, :], e_BHLT, 0.0)
    scale_BHL = 1.0 / (jnp.sum(e_BHLT, axis=-1) + 1e-30)
    e_BHLT = e_BHLT.astype(q_BHLK.dtype)
    o_BHLK = jnp.einsum("BHLT,BHTK->BHLK", dropout.apply(e_BHLT, words, rate), v_BHTK, preferred_element_type=jnp.float32)
    o_BHLK = (o_BHLK * scale_BHL[..., None]).astype(q_BHLK.dtype)
    return o_BHLK, (q_BHLK, k_BHTK, v_BHTK, e_BHLT, scale_BHL, o_BHLK, words)


def _dots(x_BHLK, y_BHLK):
    ones_K = jnp.ones(x_BHLK.shape[-1], x_BHLK.dtype)
    ones_KJ = jnp.where(jnp.arange(8)==0, ones_K[:, None], 0).astype(x_BHLK.dtype)
    return jnp.einsum("BHLK,KJ->BHLJ", x_BHLK * y_BHLK, ones_KJ, preferred_element_type=jnp.float32)[..., 0]


def _backward(rate, kept, do_BHLK):
    q_BHLK, k_BHTK, v_BHTK, e_BHLT, scale_BHL, o_BHLK, words = kept
    dtype = q_BHLK.dtype
    dot_BHL = _dots(do_BHLK, o_BHLK)
    scaled_BHLK = (do_BHLK * scale_BHL[..., None]).astype(dtype)
    dv_BHTK = jnp.einsum("BHLT,BHLK->BHTK", dropout.apply(e_BHLT, words, rate), scaled_BHLK)
    dp_BHLT = jnp.einsum("BHLK,BHTK->BHLT", scaled_BHLK, v_BHTK, preferred_element_type=jnp.float32)
    dp_BHLT = dropout.apply(dp_BHLT, words, rate)
    ds_BHLT = (e_BHLT * (dp_BHLT - (dot_BHL * scale_BHL)[..., None])).astype(dtype)
    dq_BHLK = jnp.einsum("BHLT,BHTK->BHLK", ds_BHLT, k_BHTK)
    dk_BHTK = jnp.einsum("BHLT,BHLK->BHTK", ds_BHLT, q_BHLK)
    return dq_BHLK, dk_BHTK, dv_BHTK, None, None


attend.defvjp(_forward, _backward)
