"""Attention over the unpadded tokens, in few passes over its scores.

Letters: B batch  H heads  L tokens  T tokens attended to  K head width
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from bert_tpu.model import dropout, matmul

MASKED_SCORE = float(jnp.finfo(jnp.float32).min)  # exp(it - max) is exactly 0, so padding changes no real token

# Limits of `bounded`. It takes exp(score - own score - LARGEST) of a token's scores, in float32 and then in the compute
# type, whose exponents have the same range: from 1.2e-38, below which a number counts as 0, to 3.4e38.
# - The token's own term is exp(-LARGEST) = 9e-27, so that the sum is not less. The sum loses terms below 1e-11 of it,
#   and the products with v lose parts of values below 1e-38 / 9e-27 = 1e-12.
# - If the sum is MOST, the largest score is log(MOST) + LARGEST = 106 nats above the token's own. The gradient is
#   divided by the sum before its product with v, which loses parts below 1e-38 x MOST = 1e-18. (exp alone would reach
#   to 147 nats, where gradients of 1e-4 and less have become 0.)
# - Within these limits exp, the sum and its inverse are far from 3.4e38. Values of 1e18, and gradients whose product
#   with v is 1e10, may overflow: to infinity, which appears in the step's sums, never to another number.
LARGEST = 60.0  # nats
LEAST, MOST = 1e-27, 1e20  # sum of a token's exponentials


def exact(
    q_BHKL: jax.Array,
    k_BHKT: jax.Array,
    v_BHKT: jax.Array,
    mask_B1LT: jax.Array,
    words: dropout.Words | None,
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
    words: for dropout of the probabilities, or None
    rate: of dropout
    """
    return _softmax(q_BHKL, k_BHKT, v_BHKT, mask_B1LT, words, 0.0 if words is None else rate, _largest)


def bounded(
    q_BHKL: jax.Array,
    k_BHKT: jax.Array,
    v_BHKT: jax.Array,
    mask_B1LT: jax.Array,
    words: dropout.Words | None,
    rate: float,
) -> jax.Array:
    """Returns the same as `exact`, in one pass less under a gradient; NaN at a token whose scores are out of range.

    Instead of a token's largest score it subtracts the token's score with itself plus LARGEST, which is known before
    the scores, so that their product, exp and sum are one pass. A score may be up to 106 nats above the token's own.
    No score is too low, because a token attends to itself.

    A token attends if and only if it is attended to, and then it attends to itself. A token that does not attend to
    itself, such as [PAD], gives 0 and no gradient for any scores. The arguments are those of `exact`.
    """
    return _softmax(q_BHKL, k_BHKT, v_BHKT, mask_B1LT, words, 0.0 if words is None else rate, _own)


# (q_BHKL, k_BHKT, mask_B1LT) -> the number subtracted from each token's scores [B, H, L], which tokens attend [B, 1, L]
Reference = Callable[[jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
# q_BHKL, k_BHKT, v_BHKT, e_BHLT, scale_BHL, o_BHKL
Residuals = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]


@functools.partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def _softmax(
    q_BHKL: jax.Array,
    k_BHKT: jax.Array,
    v_BHKT: jax.Array,
    mask_B1LT: jax.Array,
    words: dropout.Words | None,
    rate: float,
    reference: Reference,
) -> jax.Array:
    s_BHLT = matmul.einsum("BHKL,BHKT->BHLT", q_BHKL, k_BHKT, jnp.float32)
    p_BHLT = jax.nn.softmax(jnp.where(mask_B1LT, s_BHLT, MASKED_SCORE), axis=-1)
    return matmul.einsum("BHLT,BHKT->BHKL", dropout.apply(p_BHLT.astype(q_BHKL.dtype), words, rate), v_BHKT)


def _largest(q_BHKL: jax.Array, k_BHKT: jax.Array, mask_B1LT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns each token's largest score, [B, H, L], and which tokens attend, [B, 1, L]."""
    # XLA computes this product once, though _forward asks for it too.
    s_BHLT = matmul.einsum("BHKL,BHKT->BHLT", q_BHKL, k_BHKT, jnp.float32)
    return jnp.max(jnp.where(mask_B1LT, s_BHLT, MASKED_SCORE), axis=-1), jnp.any(mask_B1LT, axis=-1)


def _dots(x_BHKL: jax.Array, y_BHKL: jax.Array) -> jax.Array:
    return jnp.sum(x_BHKL.astype(jnp.float32) * y_BHKL.astype(jnp.float32), axis=2)


def _own(q_BHKL: jax.Array, k_BHKT: jax.Array, mask_B1LT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns each token's score with itself plus LARGEST, [B, H, L], and which tokens attend, [B, 1, L].

    The first is infinite for a token that does not attend.
    """
    attends_B1L = mask_B1LT[:, :, 0] if mask_B1LT.shape[2] == 1 else jnp.any(mask_B1LT, axis=-1)
    return jnp.where(attends_B1L, _dots(q_BHKL, k_BHKT) + LARGEST, jnp.inf), attends_B1L


def _forward(
    q_BHKL: jax.Array,
    k_BHKT: jax.Array,
    v_BHKT: jax.Array,
    mask_B1LT: jax.Array,
    words: dropout.Words | None,
    rate: float,
    reference: Reference,
) -> tuple[jax.Array, Residuals]:
    reference_BHL, attends_B1L = reference(q_BHKL, k_BHKT, mask_B1LT)
    s_BHLT = matmul.einsum("BHKL,BHKT->BHLT", q_BHKL, k_BHKT, jnp.float32)
    e_BHLT = jnp.exp(s_BHLT - reference_BHL[..., None])
    e_BHLT = jnp.where(mask_B1LT, e_BHLT, 0.0)
    sum_BHL = jnp.sum(e_BHLT, axis=-1)
    is_within_BHL = (sum_BHL >= LEAST) & (sum_BHL <= MOST)  # false for NaN
    scale_BHL = jnp.where(attends_B1L, jnp.where(is_within_BHL, 1.0 / sum_BHL, jnp.nan), 0.0)
    if rate and words is not None:
        e_BHLT = jnp.where(dropout.keep_mask(words, rate), e_BHLT, -e_BHLT)
        scale_BHL /= 1.0 - rate
    e_BHLT = e_BHLT.astype(q_BHKL.dtype)
    o_BHKL = matmul.einsum("BHLT,BHKT->BHKL", jnp.maximum(e_BHLT, 0), v_BHKT, jnp.float32)
    o_BHKL = (o_BHKL * scale_BHL[:, :, None]).astype(q_BHKL.dtype)
    return o_BHKL, (q_BHKL, k_BHKT, v_BHKT, e_BHLT, scale_BHL, o_BHKL)


def _backward(
    rate: float, reference: Reference, residuals: Residuals, do_BHKL: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None, None]:
    q_BHKL, k_BHKT, v_BHKT, e_BHLT, scale_BHL, o_BHKL = residuals
    dtype = q_BHKL.dtype
    dot_BHL = _dots(do_BHKL, o_BHKL) * scale_BHL * (1.0 - rate)
    do_BHKL = (do_BHKL * scale_BHL[:, :, None]).astype(dtype)
    dv_BHKT = matmul.einsum("BHLT,BHKL->BHKT", jnp.maximum(e_BHLT, 0), do_BHKL)
    dp_BHLT = matmul.einsum("BHKL,BHKT->BHLT", do_BHKL, v_BHKT, jnp.float32)
    dot_BHL1 = dot_BHL[..., None]
    ds_BHLT = (e_BHLT * jnp.where(e_BHLT > 0, dp_BHLT - dot_BHL1, dot_BHL1)).astype(dtype)
    dq_BHKL = matmul.einsum("BHLT,BHKT->BHKL", ds_BHLT, k_BHKT)
    dk_BHKT = matmul.einsum("BHLT,BHKL->BHKT", ds_BHLT, q_BHKL)
    return dq_BHKL, dk_BHKT, dv_BHKT, None, None


_softmax.defvjp(_forward, _backward)

FORMS = {"bounded": bounded, "exact": exact}
