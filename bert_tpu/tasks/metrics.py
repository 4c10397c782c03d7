"""How good predictions are, by the measures of GLUE (scikit-learn's and SciPy's), and how sure that is."""

from collections.abc import Callable
from typing import NamedTuple
import warnings

import numpy as np

from bert_tpu.core import command

RESAMPLES = 1000


class Measure(NamedTuple):
    """A way to judge: higher is better, and every input has a number."""

    of: Callable[[np.ndarray, np.ndarray], float]  # (labels [N], predictions [N])
    # The same of counts [C] for each class: rows that are it and predicted it, that are it, that are predicted it.
    # None where labels are no classes.
    of_counts: Callable[[np.ndarray, np.ndarray, np.ndarray], float] | None = None


def require() -> None:
    """Raises UserError unless the libraries that judge are there: better before training than after."""
    command.require("scoring", "sklearn", "scipy", extra="finetune")


def _accuracy(labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn import metrics

    return float(metrics.accuracy_score(labels, predictions))


def _f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn import metrics

    return float(metrics.f1_score(labels, predictions, pos_label=1, zero_division=0.0))


def _macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn import metrics

    return float(metrics.f1_score(labels, predictions, average="macro", zero_division=0.0))


def _matthews(labels: np.ndarray, predictions: np.ndarray) -> float:
    from sklearn import metrics

    if np.ptp(labels) == 0 or np.ptp(predictions) == 0:
        return 0.0  # scikit-learn's answer too, but with a warning
    return float(metrics.matthews_corrcoef(labels, predictions))


def _pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    from scipy import stats

    return _correlation(stats.pearsonr, labels, predictions)


def _spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    from scipy import stats

    return _correlation(stats.spearmanr, labels, predictions)


def _correlation(of: Callable, labels: np.ndarray, predictions: np.ndarray) -> float:
    if len(labels) < 2:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant sides, whose answer is below
        found = float(of(labels.astype(np.float64), predictions.astype(np.float64)).statistic)
    return found if np.isfinite(found) else 0.0


def _accuracy_of(right: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> float:
    return right.sum() / labels.sum()


def _f1_of(right: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> float:
    return 2 * right[1] / (labels[1] + predictions[1]) if right[1] else 0.0


def _macro_f1_of(right: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> float:
    both = labels + predictions
    return np.mean(2 * right[both > 0] / both[both > 0])


def _matthews_of(right: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> float:
    """Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient (2004), equation 8."""
    rows = labels.sum()
    labels, predictions = labels / rows, predictions / rows
    spread = (1 - labels @ labels) * (1 - predictions @ predictions)
    return (right.sum() / rows - labels @ predictions) / spread**0.5 if spread > 0 else 0.0


ACCURACY = Measure(_accuracy, _accuracy_of)
F1 = Measure(_f1, _f1_of)  # of class 1; 0 where nothing is of it
MACRO_F1 = Measure(_macro_f1, _macro_f1_of)  # the mean over the classes that are labels or predictions
MATTHEWS = Measure(_matthews, _matthews_of)  # 0 where labels or predictions are all of one class
PEARSON = Measure(_pearson)  # 0 where a side is constant, or holds what is no number
SPEARMAN = Measure(_spearman)  # ties at their mean rank; 0 as above


def points(measures: dict[str, Measure], labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Each measure's number, in their order."""
    return {name: measure.of(labels, predictions) for name, measure in measures.items()}


def draws(
    measure: Measure, labels: np.ndarray, predictions: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """The measure of several models' predictions [S, N] over as many rows, drawn again with replacement.

    [resamples, S], all models on the same rows (Efron and Tibshirani, An Introduction to the Bootstrap (1993)). The
    rows are all that varies: the seed of a training is not in it.
    """
    rng, rows = np.random.default_rng(seed), len(labels)
    if not measure.of_counts:
        drawn = (rng.integers(rows, size=rows) for _ in range(resamples))
        return np.array([[measure.of(labels[draw], each[draw]) for each in predictions] for draw in drawn])
    # Rows of the same label and predictions are one, and how often each is drawn is multinomial: QQP's 40,430 rows
    # are four of one model.
    found, counts = np.unique(np.stack([labels, *predictions]), axis=1, return_counts=True)
    classes, (of_label, *of_models) = 1 + max(found.max(), 1), found
    drawn = rng.multinomial(rows, counts / rows, size=resamples)

    def judged(draw):
        there = np.bincount(of_label, draw, classes)
        for predicted in of_models:
            right = np.bincount(of_label, draw * (predicted == of_label), classes)
            yield measure.of_counts(right, there, np.bincount(predicted, draw, classes))

    return np.array([list(judged(draw)) for draw in drawn])


def draws_of_means(values: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """`draws` of a measure that is the mean over rows of their values [S, N], or [S, N, K] of several; [.., K] too."""
    rng, rows = np.random.default_rng(seed), values.shape[1]
    return np.stack([values[:, rng.integers(rows, size=rows)].mean(1) for _ in range(resamples)])


def interval(drawn: np.ndarray) -> tuple[float, float]:
    """Between what 95% of the draws lie: the 2.5th and the 97.5th percentile."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)
