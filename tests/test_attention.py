"""Attention and the vocabulary's cross entropy against their plain forms, values and gradients, in float64's light."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_tpu import attention, cross_entropy, dropout, embedding

B, H, K, L = 2, 3, 8, 24


def heads(seed, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal((B, H, K, L))).astype(np.float32)


def plain(q, k, v, mask, words, rate):
    s = jnp.einsum("BHKL,BHKT->BHLT", q, k)
    p = jax.nn.softmax(jnp.where(mask, s, -1e9), axis=-1)
    return jnp.einsum("BHLT,BHKT->BHKL", dropout.apply(p, words, rate), v)


MASK = (np.arange(L) < np.array([[L], [9]]))[:, None, None]


@pytest.mark.parametrize("rate", [None, 0.3])
@pytest.mark.parametrize(
    ("form", "scale"),
    # Scores up to ten nats, to forty, and to a hundred; and to ten thousand.
    [*((attention.bounded, scale) for scale in (1.0, 1.7, 2.8)), (attention.exact, 1.0), (attention.exact, 30.0)],
)
def test_attention_and_its_gradients_are_the_plain_form_s(rate, form, scale):
    given = heads(0, scale), heads(1, scale), heads(2)
    words = None if rate is None else dropout.words(jnp.array([1, 2, 0], jnp.uint32), (B, H, L, L))
    weights = heads(3) * MASK  # nobody reads what comes out at a [PAD]

    def total(form):
        return jax.value_and_grad(lambda *qkv: jnp.sum(weights * form(*qkv, MASK, words, rate or 0.1)), (0, 1, 2))

    (value, gradients), (expected, wanted) = (total(form)(*given) for form in (form, plain))
    np.testing.assert_allclose(value, expected, rtol=2e-5, atol=2e-4)
    # Where one token takes all of the attention the gradient is 0, of numbers that are as large as the scale.
    rounding = 3e-6 * scale if scale > 10 else 1e-6
    for ours, theirs in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=5e-6 * np.abs(theirs).max() + rounding)


def test_scores_of_the_largest_scale_are_far_above_a_token_s_own():
    q, k = heads(0, 2.8), heads(1, 2.8)
    above = np.einsum("BHKL,BHKT->BHLT", q, k) - np.sum(q * k, axis=2)[..., None]
    assert above.max() > 100  # exp of it is no float32


def test_attention_is_exact_for_any_scores_where_no_gradient_is_asked_and_not_finite_where_it_cannot_be():
    given = heads(0, 30.0), heads(1, 30.0), heads(2)
    expected = plain(*given, MASK, None, 0.0)
    np.testing.assert_allclose(attention.bounded(*given, MASK, None, 0.1), expected, rtol=1e-5, atol=1e-5)
    gradient = jax.grad(lambda q: jnp.sum(attention.bounded(q, *given[1:], MASK, None, 0.1)))(given[0])
    assert not np.isfinite(gradient).all()


@pytest.mark.parametrize("form", attention.FORMS.values())
def test_attention_without_a_token_to_attend_to_is_finite(form):
    nothing = np.zeros((B, 1, 1, L), bool)
    out = jax.grad(lambda q: jnp.sum(form(q, q, q, nothing, None, 0.0) ** 2))(jnp.asarray(heads(0)))
    assert np.isfinite(out).all()


N, D, V = 40, 16, 300


def logits(seed, V=V):
    rng = np.random.default_rng(seed)
    h, table, bias = (rng.standard_normal(shape).astype(np.float32) for shape in ((N, D), (V, D), (V,)))
    return h, table, bias, rng.integers(0, V, N)


@pytest.mark.parametrize("vocab_size", [V, 2 * cross_entropy.CPU_PIECE], ids=["whole", "in pieces"])
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


@pytest.mark.parametrize("vocab_size", [V, 2 * cross_entropy.CPU_PIECE], ids=["whole", "in pieces"])
def test_hits_are_the_rows_whose_label_is_the_largest(vocab_size):
    h, table, bias, labels = logits(2, vocab_size)
    labels = np.where(np.arange(N) % 2, np.argmax(h @ table.T + bias, axis=-1), labels)
    hits = cross_entropy.tied(h, table, bias, labels)[1]
    np.testing.assert_array_equal(hits, np.argmax(h @ table.T + bias, axis=-1) == labels)


def test_a_loss_beyond_the_exact_ones_is_large_and_finite():
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
            rows, again = look_up(table, ids)
            return jnp.sum(rows**3) + jnp.sum(jnp.sin(again))

        return jax.grad(total)(table)

    np.testing.assert_allclose(twice(embedding.look_up), twice(lambda t, ids: (t[ids], t)), rtol=1e-6)
