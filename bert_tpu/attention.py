"""Attention over the unpadded tokens, in few passes over its scores.

Letters: B batch  H heads  L tokens  T tokens attended to  K head width
"""

import functools

import jax
import jax.numpy as jnp

from bert_tpu import dropout

LARGEST = 70.0  # nats; exp of it times a row of scores is far from float32's end


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def attend(q_BHKL, k_BHKT, v_BHKT, mask_BT, words, rate):
    """softmax(q k^T) v, with dropout of the probabilities where `words` are given; queries come scaled. [B, H, L, K]."""
    return _forward(q_BHKL, k_BHKT, v_BHKT, mask_BT, words, rate)[0]


def _dots(x_BHKL, y_BHKL):
    return jnp.sum(x_BHKL.astype(jnp.float32) * y_BHKL.astype(jnp.float32), axis=2)


def _forward(q_BHKL, k_BHKT, v_BHKT, mask_BT, words, rate):
    self_BHL = _dots(q_BHKL, k_BHKT)
    s_BHLT = jnp.einsum("BHKL,BHKT->BHLT", q_BHKL, k_BHKT, preferred_element_type=jnp.float32)
    e_BHLT = jnp.exp(jnp.minimum(s_BHLT - self_BHL[..., None], LARGEST))
    e_BHLT = jnp.where(mask_BT[:, None, None, :], e_BHLT, 0.0)
    scale_BHL = 1.0 / (jnp.sum(e_BHLT, axis=-1) + 1e-30)
    e_BHLT = e_BHLT.astype(q_BHKL.dtype)
    o_BHKL = jnp.einsum("BHLT,BHKT->BHKL", dropout.apply(e_BHLT, words, rate), v_BHKT, preferred_element_type=jnp.float32)
    o_BHKL = (o_BHKL * scale_BHL[:, :, None]).astype(q_BHKL.dtype)
    return o_BHKL, (q_BHKL, k_BHKT, v_BHKT, e_BHLT, scale_BHL, o_BHKL, words)


def _backward(rate, kept, do_BHKL):
    q_BHKL, k_BHKT, v_BHKT, e_BHLT, scale_BHL, o_BHKL, words = kept
    dtype = q_BHKL.dtype
    dot_BHL = _dots(do_BHKL, o_BHKL)
    scaled_BHKL = (do_BHKL * scale_BHL[:, :, None]).astype(dtype)
    dv_BHKT = jnp.einsum("BHLT,BHKL->BHKT", dropout.apply(e_BHLT, words, rate), scaled_BHKL)
    dp_BHLT = jnp.einsum("BHKL,BHKT->BHLT", scaled_BHKL, v_BHKT, preferred_element_type=jnp.float32)
    dp_BHLT = dropout.apply(dp_BHLT, words, rate)
    ds_BHLT = (e_BHLT * (dp_BHLT - (dot_BHL * scale_BHL)[..., None])).astype(dtype)
    dq_BHKL = jnp.einsum("BHLT,BHKT->BHKL", ds_BHLT, k_BHKT)
    dk_BHKT = jnp.einsum("BHLT,BHKL->BHKT", ds_BHLT, q_BHKL)
    return dq_BHKL, dk_BHKT, dv_BHKT, None, None


attend.defvjp(_forward, _backward)
