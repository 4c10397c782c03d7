"""How good predictions are, by the measures of GLUE (scikit-learn's and SciPy's), and how sure that is."""

from collections.abc import Callable
import importlib
from typing import NamedTuple
import warnings

import numpy as np

from bert_tpu import command


class Measure(NamedTuple):
    """A way to judge: higher is better, and every input has a number."""

    of: Callable[[np.ndarray, np.ndarray], float]  # (labels [N], predictions [N])
    # The same of int64 [C, C], how many rows have label i and prediction j; None where these are no classes.
    of_table: Callable[[np.ndarray], float] | None = None


def require() -> None:
    """Raises UserError unless the libraries that judge are there: better before training than after."""
    try:
        importlib.import_module("sklearn.metrics")
        importlib.import_module("scipy.stats")
    except ImportError:
        raise command.UserError(
            "judging needs scikit-learn and SciPy: python -m pip install -r requirements-finetune.txt"
        ) from None


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


def _table_accuracy(table: np.ndarray) -> float:
    return table.trace() / table.sum()


def _table_f1(table: np.ndarray) -> float:
    right, wrong = table[1, 1], table[0, 1] + table[1, 0]
    return 2 * right / (2 * right + wrong) if right else 0.0


def _table_macro_f1(table: np.ndarray) -> float:
    both = table.sum(0) + table.sum(1)
    return np.mean(2 * table.diagonal()[both > 0] / both[both > 0])


def _table_matthews(table: np.ndarray) -> float:
    """Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient (2004), equation 8."""
    rows, labels, predictions = table.sum(), table.sum(1) / table.sum(), table.sum(0) / table.sum()
    spread = (1 - labels @ labels) * (1 - predictions @ predictions)
    return (table.trace() / rows - labels @ predictions) / spread**0.5 if spread > 0 else 0.0


ACCURACY = Measure(_accuracy, _table_accuracy)
F1 = Measure(_f1, _table_f1)  # of class 1; 0 where nothing is of it
MACRO_F1 = Measure(_macro_f1, _table_macro_f1)  # the mean over the classes that are labels or predictions
MATTHEWS = Measure(_matthews, _table_matthews)  # 0 where labels or predictions are all of one class
PEARSON = Measure(_pearson)  # 0 where a side is constant, or holds what is no number
SPEARMAN = Measure(_spearman)  # ties at their mean rank; 0 as above


def points(measures: dict[str, Measure], labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Each measure's number, in their order."""
    return {name: measure.of(labels, predictions) for name, measure in measures.items()}


def intervals(
    measures: dict[str, Measure], labels: np.ndarray, predictions: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Each measure's `interval`, in their order."""
    return {name: interval(measure, labels, predictions) for name, measure in measures.items()}


def interval(
    measure: Measure, labels: np.ndarray, predictions: np.ndarray, *, resamples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the measure over as many rows, drawn again with replacement.

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), section 13.3. The rows are all that varies: the seed
    of training is not in it, and a small task's score moves with that as well.
    """
    rng, rows = np.random.default_rng(seed), len(labels)
    if measure.of_table:
        # Drawing rows, the counts of (label, prediction) are multinomial: QQP's 40,430 rows are four cells.
        classes = 1 + max(labels.max(), predictions.max(), 1)
        shares = np.bincount(labels * classes + predictions, minlength=classes**2) / rows
        draws = (rng.multinomial(rows, shares).reshape(classes, classes) for _ in range(resamples))
        found = [measure.of_table(draw) for draw in draws]
    else:
        draws = (rng.integers(rows, size=rows) for _ in range(resamples))
        found = [measure.of(labels[draw], predictions[draw]) for draw in draws]
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)
