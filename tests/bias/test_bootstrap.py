"""Intervals are those of the bootstrap, for known distributions and for examples that are really drawn again."""

import numpy as np
import pytest

from bert_tpu.bias import bootstrap


def test_a_mean_s_interval_is_the_normal_one():
    values = np.random.default_rng(0).random(800) < 0.3
    estimate = bootstrap.mean(values)
    assert estimate.value == pytest.approx(values.mean(), abs=1e-12)
    assert estimate.examples == 800
    half = 1.96 * values.std() / 800**0.5
    assert [estimate.value - estimate.low, estimate.high - estimate.value] == pytest.approx([half, half], rel=0.12)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    intervals = [bootstrap.mean(rng.exponential(size=80)) for _ in range(150)]
    covered = np.mean([each.low <= 1 <= each.high for each in intervals])
    assert 0.88 <= covered <= 0.98  # a little below 0.95, because the distribution is skewed; three deviations


def test_equal_examples_have_no_spread_and_no_examples_have_no_value():
    assert bootstrap.mean([2.5] * 7) == (2.5, 2.5, 2.5, 7)
    assert bootstrap.mean([1.0]) == (1, 1, 1, 1)
    assert bootstrap.mean([]) is None
    assert bootstrap.ratio([], []) is None
    assert bootstrap.pearson([], []) is None


def test_the_same_examples_give_the_same_interval_twice():
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap.mean(values) == bootstrap.mean(values)


@pytest.mark.parametrize("estimator", [bootstrap.ratio, bootstrap.pearson])
def test_a_weight_counts_how_often_an_example_was_drawn(estimator, monkeypatch):
    """Weights give the value that NumPy computes from examples which are really repeated."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=12), rng.uniform(1, 2, size=12)
    x += y
    calls = []
    monkeypatch.setattr(bootstrap, "estimate", lambda statistic, examples: calls.append((statistic, examples)))
    estimator(x, y)
    [(statistic, examples)] = calls
    weights = rng.multinomial(12, np.full(12, 1 / 12), size=5)
    wanted = []
    for counts in weights:
        drawn = np.repeat(np.arange(12), counts)
        wanted.append(
            x[drawn].sum() / y[drawn].sum() if estimator is bootstrap.ratio else np.corrcoef(x[drawn], y[drawn])[0, 1]
        )
    assert examples == 12
    np.testing.assert_allclose(statistic(weights), wanted, rtol=1e-9)


def test_correlation_with_a_constant_is_zero():
    assert bootstrap.pearson([1, 2, 3, 4], [5, 5, 5, 5]) == (0, 0, 0, 4)
    assert bootstrap.pearson([0.1, 0.1, 0.1], [1, 2, 3])[:3] == (0, 0, 0)
    estimate = bootstrap.pearson([1, 2, 3, 4, 5, 6], [-2, -4, -6, -8, -10, -12])
    assert estimate.value == pytest.approx(-1)
    assert estimate.high <= 0


def test_the_size_of_a_block_of_draws_changes_no_result(monkeypatch):
    values = np.random.default_rng(0).normal(size=30)
    whole = bootstrap.mean(values)
    monkeypatch.setattr(bootstrap, "BLOCK", 31)
    assert bootstrap.mean(values) == pytest.approx(whole, abs=1e-12)


def test_every_example_twice_changes_no_value_and_narrows_the_interval():
    values = np.random.default_rng(3).normal(size=200)
    once, twice = bootstrap.mean(values), bootstrap.mean(np.tile(values, 2))
    assert twice.value == pytest.approx(once.value)
    assert (once.high - once.low) / (twice.high - twice.low) == pytest.approx(2**0.5, rel=0.1)
