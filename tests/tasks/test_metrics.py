"""Metrics are GLUE's: equal to small cases by hand, finite for degenerate ones, with intervals of a known width."""

import sys
import time
import tracemalloc

from hypothesis import given, settings, strategies
import numpy as np
import pytest
from scipy import stats

from bert_tpu.core import command
from bert_tpu.tasks import metrics

OF_CLASSES = (metrics.ACCURACY, metrics.F1, metrics.MACRO_F1, metrics.MATTHEWS)
OF_SCORES = (metrics.PEARSON, metrics.SPEARMAN)


def classes(*values):
    return np.array(values, np.int32)


def reals(*values):
    return np.array(values, np.float32)


def test_metrics_of_two_classes_are_their_formulas():
    # Class 1: 3 true positives, 1 false negative, 2 false positives; 4 true negatives.
    labels, predictions = classes(*[1] * 4, *[0] * 6), classes(1, 1, 1, 0, 1, 1, 0, 0, 0, 0)
    assert metrics.ACCURACY.compute(labels, predictions) == pytest.approx(7 / 10)
    assert metrics.F1.compute(labels, predictions) == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
    assert metrics.MACRO_F1.compute(labels, predictions) == pytest.approx((6 / 9 + 8 / 11) / 2)
    matthews = (3 * 4 - 2 * 1) / (5 * 4 * 6 * 5) ** 0.5
    assert metrics.MATTHEWS.compute(labels, predictions) == pytest.approx(matthews)
    # Two classes: Matthews is Pearson's coefficient of the two columns.
    assert metrics.PEARSON.compute(labels, predictions) == pytest.approx(matthews)


def spread(metric, labels, predictions, **options):
    """The interval of one model's predictions."""
    return metrics.interval(metrics.bootstrap(metric, labels, predictions[None], **options)[:, 0])


def test_f1_is_of_class_one_and_not_of_class_zero():
    labels, predictions = classes(1, 0, 0, 0), classes(0, 0, 0, 0)
    assert metrics.F1.compute(labels, predictions) == 0.0
    assert metrics.F1.compute(1 - labels, 1 - predictions) == pytest.approx(6 / 7)


def test_correlations_are_their_formulas():
    labels, outputs = reals(0, 1, 2, 3), reals(0, 1, 8, 27)
    assert metrics.SPEARMAN.compute(labels, outputs) == pytest.approx(1)
    spread = np.sum((labels - 1.5) * (outputs - 9)) / np.sqrt(np.sum((labels - 1.5) ** 2) * np.sum((outputs - 9) ** 2))
    assert metrics.PEARSON.compute(labels, outputs) == pytest.approx(spread)
    assert metrics.SPEARMAN.compute(reals(1, 1, 2), reals(1, 2, 3)) == pytest.approx(1.5 / 3**0.5)  # ranks 1.5 1.5 3


@pytest.mark.parametrize("labels", [classes(0, 0, 0), classes(1, 1, 1), classes(0, 1, 1)])
@pytest.mark.parametrize("predictions", [classes(0, 0, 0), classes(1, 1, 1), classes(1, 0, 1), classes(2, 2, 2)])
def test_every_classification_has_a_number_and_no_warning(labels, predictions):
    for metric in (metrics.ACCURACY, metrics.MACRO_F1, metrics.MATTHEWS):
        assert np.isfinite(metric.compute(labels, predictions))
        assert np.isfinite(spread(metric, labels, predictions, resamples=20)).all()
    if predictions.max() < 2:
        assert 0 <= metrics.F1.compute(labels, predictions) <= 1
    if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
        assert metrics.MATTHEWS.compute(labels, predictions) == 0


@pytest.mark.parametrize("metric", OF_SCORES)
def test_every_regression_has_a_number_and_no_warning(metric):
    labels = reals(1, 2, 3, 4)
    nearly = reals(1, 1, 1, 1) + np.float32(1e-7) * np.arange(4, dtype=np.float32)
    for outputs in (reals(2, 2, 2, 2), nearly, reals(1, np.nan, 2, 3), reals(1, np.inf, 2, 3)):
        assert np.isfinite(metric.compute(labels, outputs))
    assert metric.compute(labels, reals(2, 2, 2, 2)) == metric.compute(reals(5, 5), reals(1, 2)) == 0
    assert metric.compute(reals(1), reals(1)) == 0
    assert np.isfinite(spread(metric, reals(1, 2), reals(1, 2), resamples=50)).all()


@settings(deadline=None)  # the first example imports libraries
@given(strategies.lists(strategies.tuples(strategies.integers(0, 3), strategies.integers(0, 3)), min_size=1))
def test_a_measure_of_counts_is_that_of_the_rows(pairs):
    labels, predictions = np.array(pairs, np.int32).T
    for metric in OF_CLASSES:
        few = metric is metrics.F1
        a, b = (labels > 1, predictions > 1) if few else (labels, predictions)
        table = np.bincount(a * 4 + b, minlength=16).reshape(4, 4)
        counts = table.diagonal(), table.sum(1), table.sum(0)
        assert metric.from_counts(*counts) == pytest.approx(metric.compute(a.astype(np.int32), b.astype(np.int32)))


def test_the_interval_of_an_accuracy_is_the_binomial_one():
    labels = np.ones(400, np.int32)
    predictions = np.r_[np.ones(300, np.int32), np.zeros(100, np.int32)]
    low_high = spread(metrics.ACCURACY, labels, predictions, resamples=20_000)
    assert low_high == pytest.approx(np.array(stats.binom(400, 0.75).interval(0.95)) / 400, abs=0.0026)


def test_the_interval_of_a_correlation_is_that_of_fisher():
    rng = np.random.default_rng(0)
    labels = rng.normal(size=1000)
    outputs = labels + rng.normal(size=1000)
    middle = np.arctanh(metrics.PEARSON.compute(labels, outputs))
    wanted = np.tanh(middle + np.array([-1.96, 1.96]) / 997**0.5)
    assert spread(metrics.PEARSON, labels, outputs) == pytest.approx(wanted, abs=0.006)


def test_rows_drawn_and_counts_drawn_spread_alike():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 300).astype(np.int32)
    predictions = np.where(rng.random(300) < 0.7, labels, (labels + 1) % 3)
    by_rows = metrics.Metric(metrics.MATTHEWS.compute)
    drawn = spread(by_rows, labels, predictions, resamples=400)
    assert spread(metrics.MATTHEWS, labels, predictions, resamples=5000) == pytest.approx(drawn, abs=0.02)


def test_many_classes_take_no_more_than_their_counts():
    labels = np.arange(20_000, dtype=np.int32)  # one row each; a table of two of them would have 3 GB
    predictions = np.where(labels % 4, labels, 0)
    tracemalloc.start()
    try:
        drawn = metrics.bootstrap(metrics.MACRO_F1, labels, predictions[None], resamples=20)
        assert tracemalloc.get_traced_memory()[1] < 30e6
    finally:
        tracemalloc.stop()
    assert drawn.shape == (20, 1)
    assert drawn.mean() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize("metric", [metrics.MATTHEWS, metrics.Metric(metrics.MATTHEWS.compute)])
def test_models_are_judged_on_the_same_draws(metric):
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 200).astype(np.int32)
    near, far = (np.where(rng.random(200) < right, labels, 1 - labels) for right in (0.9, 0.6))
    drawn = metrics.bootstrap(metric, labels, np.stack([near, far, near]), resamples=300)
    assert drawn.shape == (300, 3)
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 2])
    for column, predictions in zip(drawn.T, (near, far), strict=False):
        assert column.mean() == pytest.approx(metric.compute(labels, predictions), abs=0.02)


def test_draws_of_means_spread_as_the_error_of_a_mean():
    values = np.random.default_rng(4).normal(3, 2, (1, 400, 2))
    drawn = metrics.bootstrap_means(values, resamples=4000)
    assert drawn.shape == (4000, 1, 2)
    np.testing.assert_allclose(drawn.std(axis=0)[0], values[0].std(axis=0) / 20, rtol=0.05)
    np.testing.assert_allclose(drawn.mean(axis=0)[0], values[0].mean(axis=0), atol=0.01)


def test_an_interval_is_its_seed_s_and_quick():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 40_430).astype(np.int32)
    predictions = np.where(rng.random(40_430) < 0.9, labels, 1 - labels)
    start_s = time.process_time()  # another process's work does not count
    first = spread(metrics.F1, labels, predictions)
    assert time.process_time() - start_s < 2  # 0.02 s on a laptop
    assert first == spread(metrics.F1, labels, predictions)
    assert first != spread(metrics.F1, labels, predictions, seed=1)
    assert first[0] < metrics.F1.compute(labels, predictions) < first[1]


@pytest.mark.parametrize("library", ["sklearn", "scipy"])
def test_a_missing_library_is_named_before_it_is_needed(monkeypatch, library):
    metrics.require()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(command.UserError, match=r"pip install 'bert_tpu\[finetune\]'"):
        metrics.require()


@pytest.mark.parametrize("metric", [metrics.PEARSON, metrics.SPEARMAN], ids=["pearson", "spearman"])
def test_the_bootstrap_of_a_correlation_is_that_of_the_drawn_rows(metric):
    """Labels have ties. In many draws of three rows a column is constant."""
    for rows in (200, 3):
        draw = np.random.default_rng(0)
        labels = draw.integers(0, 6, rows).astype(np.float32)
        predictions = np.stack([labels + draw.normal(size=rows), draw.normal(size=rows).round(), np.full(rows, 0.1)])
        ours = metrics.bootstrap(metric, labels, predictions, resamples=40, seed=5)
        again = np.random.default_rng(5)
        picks = [again.integers(rows, size=rows) for _ in range(40)]
        wanted = [[metric.compute(labels[pick], model[pick]) for model in predictions] for pick in picks]
        np.testing.assert_allclose(ours, wanted, atol=1e-12)
        assert not ours[:, 2].any()
