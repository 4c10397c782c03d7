"""Pair rules against truncate_seq_pair's own loop."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import tensorflow as tf

from bert_tpu.data import nsp_pairs


def original_lengths(a, b, most):
    """Returns the tokens left of A and B by the loop of create_pretraining_data.py, which shortens the longer side."""
    while a + b > most:
        if a > b:
            a -= 1
        else:
            b -= 1
    return a, b


def truncate(a, b, most, coins):
    spans = nsp_pairs.Pairs(*(tf.constant([x], tf.int64) for x in (1000, a, 5000, b)), tf.constant([True]))
    cut = nsp_pairs._truncate(spans, tf.constant([coins], tf.int64), most)
    return [int(x[0]) for x in cut[:4]]


@settings(max_examples=100, deadline=None)
@given(
    a=st.integers(1, 700),
    b=st.integers(1, 700),
    most=st.integers(2, 509),
    coins=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=8, max_size=8),
)
def test_lengths_equal_the_originals_and_cuts_stay_inside(a, b, most, coins):
    a_first, a_length, b_first, b_length = truncate(a, b, most, coins)
    assert (a_length, b_length) == original_lengths(a, b, most)
    assert 1000 <= a_first <= 1000 + a - a_length
    assert 5000 <= b_first <= 5000 + b - b_length


def test_tokens_go_from_the_front_as_often_as_coins_fall():
    rng = np.random.default_rng(0)
    coins = rng.integers(-(2**63), 2**63 - 1, (4000, 8), endpoint=True)
    for tosses in (1, 2, 63, 64, 65, 100, 512):
        heads = nsp_pairs._heads(tf.fill([4000], tf.constant(tosses, tf.int64)), tf.constant(coins)).numpy()
        assert heads.min() >= 0
        assert heads.max() <= tosses
        # Binomial(n, 1/2): mean n/2, variance n/4; four standard errors of each.
        assert abs(heads.mean() - tosses / 2) < 4 * (tosses / 4 / 4000) ** 0.5
        assert abs(heads.var() / (tosses / 4) - 1) < 4 * (2 / 4000) ** 0.5 + 0.02


def test_the_two_sides_toss_different_coins():
    rng = np.random.default_rng(1)
    coins = rng.integers(-(2**63), 2**63 - 1, (4000, 8), endpoint=True)
    spans = nsp_pairs.Pairs(
        *(tf.fill([4000], tf.constant(x, tf.int64)) for x in (0, 100, 0, 100)), tf.fill([4000], True)
    )
    cut = nsp_pairs._truncate(spans, tf.constant(coins), 100)
    assert abs(np.corrcoef(cut.a_first.numpy(), cut.b_first.numpy())[0, 1]) < 0.06
