"""Attention and cross entropy equal their plain forms, values and gradients, in float32 or float64."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_tpu.model import attention, cross_entropy, dropout, embedding

B, H, K, L = 2, 3, 8, 24


def heads(seed, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal((B, H, K, L))).astype(np.float32)


def plain(q, k, v, mask, bits, rate):
    s = jnp.einsum("BHKL,BHKT->BHLT", q, k)
    p = jax.nn.softmax(jnp.where(mask, s, -1e9), axis=-1)
    return jnp.einsum("BHLT,BHKT->BHKL", dropout.apply(p, bits, rate), v)


MASK = (np.arange(L) < np.array([[L], [9]]))[:, None, None]


@pytest.mark.parametrize("rate", [None, 0.3])
@pytest.mark.parametrize("scale", [1.0, 30.0])  # scores up to 10 nats and to 10,000
def test_attention_and_its_gradients_are_the_plain_form_s(rate, scale):
    qkv = heads(0, scale), heads(1, scale), heads(2)
    bits = None if rate is None else dropout.bits(jnp.array([1, 2, 0], jnp.uint32), (B, H, L, L))
    weights = heads(3) * MASK  # the output at a [PAD] is not used

    def total(form):
        return jax.value_and_grad(lambda *qkv: jnp.sum(weights * form(*qkv, MASK, bits, rate or 0.1)), (0, 1, 2))

    (value, gradients), (expected, wanted) = (total(form)(*qkv) for form in (attention.attend, plain))
    np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-4)
    # If one token takes all of the attention, the gradient is 0, a difference of numbers as large as the scale.
    rounding = 3e-6 * scale if scale > 10 else 1e-6
    for ours, theirs in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-6 * np.abs(theirs).max() + rounding)


def test_attention_without_a_token_to_attend_to_is_finite():
    nothing = np.zeros((B, 1, 1, L), bool)
    q = jnp.asarray(heads(0, 1e9))
    for do in (heads(1), heads(1, 1e30)):
        assert not any(x.any() for x in computed(q, q, q, do, nothing, None, 0.0))


class Exact(NamedTuple):
    """A result in float64, and the size of the terms of its sum, to which rounding is proportional."""

    value: np.ndarray
    size: float


def differentiated(q, k, v, do, mask, keep, rate):
    """Returns o, dq, dk, dv of softmax attention, an Exact [B, H, K, L] each. keep: dropout's mask or 1."""
    q, k, v, do = (np.asarray(x, np.float64) for x in (q, k, v, do))
    s = np.where(mask, np.einsum("bhkl,bhkt->bhlt", q, k), -np.inf)
    e = np.where(mask, np.exp(s - np.where(mask.any(-1, keepdims=True), s.max(-1, keepdims=True), 0)), 0)
    p, kept = e / np.maximum(e.sum(-1, keepdims=True), 1e-300), keep / (1 - rate)

    def all_of(q, k, v, do, sign):
        dp = np.einsum("bhkl,bhkt->bhlt", do, v) * kept
        ds = p * (dp - sign * (p * dp).sum(-1, keepdims=True))
        yield np.einsum("bhlt,bhkt->bhkl", p * kept, v)
        yield from (np.einsum("bhlt,bhkt->bhkl", ds, k), np.einsum("bhlt,bhkl->bhkt", ds, q))
        yield np.einsum("bhlt,bhkl->bhkt", p * kept, do)

    sizes = all_of(*map(np.abs, (q, k, v, do)), -1)
    return [Exact(value, size.max()) for value, size in zip(all_of(q, k, v, do, 1), sizes, strict=True)]


def computed(q, k, v, do, mask, bits, rate):
    """Returns the same by attention.attend, as float64 arrays."""
    o, pull = jax.vjp(lambda *qkv: attention.attend(*qkv, mask, bits, rate), q, k, v)
    return [np.asarray(x, np.float64) for x in (o, *pull(jnp.asarray(do, o.dtype)))]


PADDED = np.arange(L) < np.array([[L - 5], [9]])
NUMBERS = np.where(PADDED, 1 + np.arange(L) // 8, 0)  # examples that share rows; padding has number 0
QUERIES = np.where(PADDED, NUMBERS, -1)
MASKS = {
    "rows": np.broadcast_to(PADDED[:, None, None], (B, 1, 1, L)),
    "shared rows": QUERIES[:, None, :, None] == NUMBERS[:, None, None],
}


ROUNDING = {"float32": 2e-5, "bfloat16": 2e-2}  # of scores up to a hundred


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("size", [1.0, 1e3, 1e9])
def test_padding_of_any_size_changes_no_real_token_and_nothing_is_infinite(mask, rate, dtype, size):
    """Queries, keys and values of padding are `size` times those of real tokens: scores of 1e1, 1e7 and 1e19 nats."""
    scale = np.where(PADDED, 1.0, size)[:, None, None]
    q, k, v = (jnp.asarray(heads(seed) * scale, dtype) for seed in range(3))
    real = PADDED[:, None, None]
    do = jnp.asarray(heads(3) * real, dtype)
    bits = dropout.bits(jnp.array([1, 2, 0], jnp.uint32), (B, H, L, L)) if rate else None
    keep = np.asarray(dropout.keep_mask(bits, rate)) if rate else 1
    ours = computed(q, k, v, do, mask, bits, rate)
    for one, other in zip(ours, differentiated(q * real, k * real, v * real, do, mask, keep, rate), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one * real, other.value * real, rtol=0, atol=ROUNDING[dtype] * other.size)
    assert not any((gradient * ~real).any() for gradient in ours[1:])


def gapped(gap, dtype):
    """Returns q, k and v of a row whose first token has scores from `gap` nats below to `gap` nats above its own."""
    q, k, v = (np.random.default_rng(seed).standard_normal((1, 1, K, L)).astype(np.float32) for seed in range(3))
    q[0, 0, :, 0] = 8 * (np.arange(K) == 0)
    k[0, 0, 0] = np.linspace(-gap, gap, L) / 8
    k[0, 0, :, 0] = 0  # its own score
    k[0, 0, 0, -2] = gap / 8  # two tokens share the attention, so that the gradient is not 0
    return [jnp.asarray(x, dtype) for x in (q, k, v)]


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("score", [np.inf, -np.inf, np.nan])
def test_a_token_whose_scores_are_not_finite_gives_nan_and_never_a_number(score, mask, rate, dtype):
    """All scores of each row's first token overflow to infinity, or are NaN."""
    q, k, v = (heads(seed) for seed in range(3))
    q[..., 0] = np.array([score if np.isnan(score) else np.sign(score) * 1e30] + [0] * (K - 1))
    k[:, :, 0] = 1e30
    bits = dropout.bits(jnp.array([1, 2, 0], jnp.uint32), (B, H, L, L)) if rate else None
    o, dq, dk, dv = computed(*(jnp.asarray(x, dtype) for x in (q, k, v)), jnp.asarray(heads(3)), mask, bits, rate)
    assert np.isnan(o[..., 0]).all()
    assert np.isnan(dq[..., 0]).all()
    attended_BHT = np.broadcast_to(mask[:, :, 0], (B, H, L))
    assert all(np.isnan(gradient).all(axis=2)[attended_BHT].all() for gradient in (dk, dv))


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("gap", [0, 100, 150, 1000, 10_000])
def test_scores_may_be_as_far_apart_as_they_like(gap, dtype):
    q, k, v = gapped(gap, dtype)
    do, mask = jnp.asarray(heads(3)[:1, :1], dtype), np.ones((1, 1, 1, L), bool)
    rounding = max(ROUNDING[dtype], 1e-7 * gap)  # float32 resolves a score of 10,000 to 1e-3
    ours = computed(q, k, v, do, mask, None, 0.0)
    for one, other in zip(ours, differentiated(q, k, v, do, mask, 1, 0.0), strict=True):
        np.testing.assert_allclose(one, other.value, rtol=0, atol=rounding * other.size)


N, D, V = 40, 16, 300


def logits(seed, V=V):
    rng = np.random.default_rng(seed)
    h, table, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((N, D), (V, D), (V,)))
    return h, table, bias, rng.integers(0, V, N)


@pytest.mark.parametrize("vocab_size", [V, 2 * cross_entropy.CPU_BLOCK], ids=["whole", "in blocks"])
def test_cross_entropy_and_its_gradients_are_the_plain_form_s(vocab_size):
    h, table, bias, labels = logits(0, vocab_size)
    weights = np.random.default_rng(1).random(N).astype(np.float32)

    def expected(h, table, bias):
        z = h @ table.T + bias
        return jnp.sum(weights * (jax.nn.logsumexp(z, axis=-1) - z[jnp.arange(N), labels]))

    def ours(h, table, bias):
        return jnp.sum(weights * cross_entropy.tied(h, table, bias, labels)[0])

    (value, gradients), (wanted, theirs) = (jax.value_and_grad(f, (0, 1, 2))(h, table, bias) for f in (ours, expected))
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    for one, other in zip(gradients, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6 * np.abs(other).max())


def probabilities(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("vocab_size", [300, 2 * cross_entropy.CPU_BLOCK], ids=["whole", "in blocks"])
@pytest.mark.parametrize("p", [0.1, 0.64, 0.9, 0.944, 0.99, 0.996, 0.999])
def test_bfloat16_gradients_are_right_however_sure_the_model_is(p, vocab_size):
    """All gradients are within 1% of float64's, and of the right length. p: mean probability of the labels."""
    rng = np.random.default_rng(0)
    N, D = 128, 64
    table = jnp.asarray(rng.standard_normal((vocab_size, D)) / D**0.5, jnp.bfloat16)
    labels = rng.integers(0, vocab_size, N)
    exact = np.asarray(table, np.float64)
    noise = rng.standard_normal((N, D))
    noise_z, label_z = noise @ exact.T, exact[labels] @ exact.T
    low, high = np.zeros(N), np.full(N, 100.0)
    for _ in range(40):  # bisects the share of the label's row that brings its probability to p
        middle = (low + high) / 2
        is_less = probabilities(noise_z + middle[:, None] * label_z)[np.arange(N), labels] < p
        low, high = np.where(is_less, middle, low), np.where(is_less, high, middle)
    h = jnp.asarray(noise + low[:, None] * exact[labels], jnp.bfloat16)
    weights = rng.uniform(0.5, 1, N).astype(np.float32)

    dz = probabilities(np.asarray(h, np.float64) @ exact.T)
    assert np.mean(dz[np.arange(N), labels]) == pytest.approx(p, rel=0.05, abs=0.2 * (1 - p))
    dz[np.arange(N), labels] = 0
    dz[np.arange(N), labels] = -dz.sum(1)
    dz *= weights[:, None]
    expected = dz @ exact, dz.T @ np.asarray(h, np.float64), dz.sum(0)

    def ours(h, table, bias):
        return jnp.sum(weights * cross_entropy.tied(h, table, bias, labels)[0])

    gradients = jax.grad(ours, (0, 1, 2))(h, table.astype(jnp.float32), jnp.zeros(vocab_size))
    for name, one, other in zip(("h", "table", "bias"), gradients, expected, strict=True):
        error = np.asarray(one, np.float64) - other
        assert np.linalg.norm(error) < 0.01 * np.linalg.norm(other), name
        assert abs(np.vdot(error, other)) < 0.003 * np.vdot(other, other), name


@pytest.mark.parametrize("vocab_size", [V, 2 * cross_entropy.CPU_BLOCK], ids=["whole", "in blocks"])
def test_hits_are_the_rows_whose_label_is_the_largest(vocab_size):
    h, table, bias, labels = logits(2, vocab_size)
    labels = np.where(np.arange(N) % 2, np.argmax(h @ table.T + bias, axis=-1), labels)
    hits = cross_entropy.tied(h, table, bias, labels)[1]
    np.testing.assert_array_equal(hits, np.argmax(h @ table.T + bias, axis=-1) == labels)


def test_a_loss_above_the_exact_range_is_large_and_finite():
    h, table = np.full((1, 1), 10.0, np.float32), np.array([[10.0], [-10.0]], np.float32)
    for label, least in ((0, 0.0), (1, 70.0)):
        loss, gradients = jax.value_and_grad(
            lambda h, t, label=label: cross_entropy.tied(h, t, jnp.zeros(2), jnp.array([label]))[0].sum(), (0, 1)
        )(h, table)
        assert least <= loss < 201
        assert all(np.isfinite(g).all() for g in gradients)


def test_a_table_used_twice_gets_both_gradients():
    table, ids = jnp.asarray(logits(3)[1]), np.array([[1, 1, 5], [0, 299, 5]])

    def twice(look_up):
        def total(table):
            rows, same_table = look_up(table, ids)
            return jnp.sum(rows**3) + jnp.sum(jnp.sin(same_table))

        return jax.grad(total)(table)

    np.testing.assert_allclose(twice(embedding.look_up), twice(lambda t, ids: (t[ids], t)), rtol=1e-6)
