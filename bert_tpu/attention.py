"""Attention over the unpadded tokens, in few passes over its scores.

Letters: B batch  H heads  L tokens  T tokens attended to  K head width
"""

import functools

import jax
import jax.numpy as jnp

from bert_tpu import dropout, product

MASKED_SCORE = -1e9  # exp(it - max) is exactly 0 in float32, so padding changes no real token
LARGEST = 60.0  # nats of a score above its reference: neither exp nor its inverse, times a gradient, leaves float32
LEAST = 1e-30  # sum of a token's exponentials: of smaller ones float32 loses those that matter


def exact(q_BHKL, k_BHKT, v_BHKT, mask_B1LT, words, rate):
    """softmax(q k^T) v, [B, H, K, L], with dropout of the probabilities where `words` are given; queries come scaled.

    mask_B1LT: true where a token attends to another; L is 1 where all of a row attend to the same. One that attends to
    none is given something else under a gradient; nobody reads it.
    Under a gradient the softmax is computed as e / sum(e), e being exp(score - the token's largest). What is kept for
    the gradient is e alone, whose sign says whether dropout keeps it; the division by the sum comes after the product
    with v, and the softmax's gradient takes sum(p dp) = sum(do o) (Dao et al. 2022, arXiv:2205.14135, appendix B).
    """
    return _softmax(q_BHKL, k_BHKT, v_BHKT, mask_B1LT, words, 0.0 if words is None else rate, _largest)


def bounded(q_BHKL, k_BHKT, v_BHKT, mask_B1LT, words, rate):
    """What `exact` gives, in one pass less under a gradient, and not for all scores.

    Instead of a token's largest score it takes `_reference`, which is known before the scores, so that their product,
    exp and sum are one pass.
    """
    return _softmax(q_BHKL, k_BHKT, v_BHKT, mask_B1LT, words, 0.0 if words is None else rate, _reference)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _softmax(q_BHKL, k_BHKT, v_BHKT, mask_B1LT, words, rate, reference):
    s_BHLT = product.einsum("BHKL,BHKT->BHLT", q_BHKL, k_BHKT, jnp.float32)
    p_BHLT = jax.nn.softmax(jnp.where(mask_B1LT, s_BHLT, MASKED_SCORE), axis=-1)
    return product.einsum("BHLT,BHKT->BHKL", dropout.apply(p_BHLT.astype(q_BHKL.dtype), words, rate), v_BHKT)


def _largest(q_BHKL, k_BHKT, mask_B1LT):
    """A token's largest score, [B, H, L]."""
    s_BHLT = product.einsum("BHKL,BHKT->BHLT", q_BHKL, k_BHKT, jnp.float32)  # XLA sees that it is asked twice
    return jnp.max(jnp.where(mask_B1LT, s_BHLT, MASKED_SCORE), axis=-1)


def _dots(x_BHKL, y_BHKL):
    return jnp.sum(x_BHKL.astype(jnp.float32) * y_BHKL.astype(jnp.float32), axis=2)


def _reference(q_BHKL, k_BHKT, mask_B1LT):
    """A number for each token, [B, H, L], that none of its scores exceeds by more than LARGEST.

    The token's score with itself, but at most LARGEST below the bound that Cauchy and Schwarz put on its scores. Where
    that bound is 129 nats above the largest score, exponentials vanish; the result is then not finite, so that the
    training step is skipped. Of fresh weights none comes near; of a trained encoder, 6 layers of 384, with dropout
    some do, because its keys have much in common.
    """
    del mask_B1LT  # the bound holds for all
    longest_BH1 = jnp.sqrt(jnp.max(_dots(k_BHKT, k_BHKT), axis=-1, keepdims=True))
    bound_BHL = jnp.sqrt(_dots(q_BHKL, q_BHKL)) * longest_BH1
    return jnp.maximum(_dots(q_BHKL, k_BHKT), bound_BHL - LARGEST)


def _forward(q_BHKL, k_BHKT, v_BHKT, mask_B1LT, words, rate, reference):
    reference_BHL = reference(q_BHKL, k_BHKT, mask_B1LT)
    s_BHLT = product.einsum("BHKL,BHKT->BHLT", q_BHKL, k_BHKT, jnp.float32)
    e_BHLT = jnp.exp(s_BHLT - reference_BHL[..., None])
    e_BHLT = jnp.where(mask_B1LT, e_BHLT, 0.0)
    sum_BHL = jnp.sum(e_BHLT, axis=-1)
    lost_BHL = (sum_BHL < LEAST) & jnp.any(mask_B1LT, axis=-1)
    scale_BHL = jnp.where(lost_BHL, jnp.nan, 1.0 / jnp.maximum(sum_BHL, LEAST))
    if rate:
        e_BHLT = jnp.where(dropout.keep_mask(words, rate), e_BHLT, -e_BHLT)
        scale_BHL /= 1.0 - rate
    e_BHLT = e_BHLT.astype(q_BHKL.dtype)
    o_BHKL = product.einsum("BHLT,BHKT->BHKL", jnp.maximum(e_BHLT, 0), v_BHKT, jnp.float32)
    o_BHKL = (o_BHKL * scale_BHL[:, :, None]).astype(q_BHKL.dtype)
    return o_BHKL, (q_BHKL, k_BHKT, v_BHKT, e_BHLT, scale_BHL, o_BHKL)


def _backward(rate, reference, kept, do_BHKL):
    q_BHKL, k_BHKT, v_BHKT, e_BHLT, scale_BHL, o_BHKL = kept
    dtype = q_BHKL.dtype
    dot_BHL = _dots(do_BHKL, o_BHKL) * scale_BHL * (1.0 - rate)
    do_BHKL = (do_BHKL * scale_BHL[:, :, None]).astype(dtype)
    dv_BHKT = product.einsum("BHLT,BHKL->BHKT", jnp.maximum(e_BHLT, 0), do_BHKL)
    dp_BHLT = product.einsum("BHKL,BHKT->BHLT", do_BHKL, v_BHKT, jnp.float32)
    dot_BHL1 = dot_BHL[..., None]
    ds_BHLT = (e_BHLT * jnp.where(e_BHLT > 0, dp_BHLT - dot_BHL1, dot_BHL1)).astype(dtype)
    dq_BHKL = product.einsum("BHLT,BHKT->BHKL", ds_BHLT, k_BHKT)
    dk_BHKT = product.einsum("BHLT,BHKL->BHKT", ds_BHLT, q_BHKL)
    return dq_BHKL, dk_BHKT, dv_BHKT, None, None


_softmax.defvjp(_forward, _backward)

FORMS = {"bounded": bounded, "exact": exact}
