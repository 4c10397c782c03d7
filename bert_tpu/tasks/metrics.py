"""Metrics of classification and regression, which task of GLUE has which, and their intervals by bootstrap."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple
import warnings

import numpy as np

from bert_tpu.core import command

RESAMPLES = 1000


class Metric(NamedTuple):
    """A score of predictions. Higher is better, and every input has a finite score."""

    compute: Callable[[np.ndarray, np.ndarray], float]  # (labels [N], predictions [N])
    # The same from counts [C] of each class: rows that are correct, rows with this label, rows with this prediction.
    # None for metrics of numbers.
    from_counts: Callable[[np.ndarray, np.ndarray, np.ndarray], float] | None = None
    correlation_of: str = ""  # "numbers" or "ranks" if it is their correlation


def require() -> None:
    """Raises UserError unless the libraries of the metrics are installed: better before training than after."""
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
        return 0.0  # scikit-learn returns it too, but with a warning
    return float(metrics.matthews_corrcoef(labels, predictions))


def _pearson(labels: np.ndarray, predictions: np.ndarray) -> float:
    from scipy import stats

    return _correlation(stats.pearsonr, labels, predictions)


def _spearman(labels: np.ndarray, predictions: np.ndarray) -> float:
    from scipy import stats

    return _correlation(stats.spearmanr, labels, predictions)


def _correlation(correlate: Callable[..., Any], labels: np.ndarray, predictions: np.ndarray) -> float:
    if len(labels) < 2:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy warns of constant inputs; they score 0 below
        value = float(correlate(labels.astype(np.float64), predictions.astype(np.float64)).statistic)
    return value if np.isfinite(value) else 0.0


def _accuracy_from_counts(correct: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> float:
    return correct.sum() / labels.sum()


def _f1_from_counts(correct: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> float:
    return 2 * correct[1] / (labels[1] + predictions[1]) if correct[1] else 0.0


def _macro_f1_from_counts(correct: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> float:
    both = labels + predictions
    return float(np.mean(2 * correct[both > 0] / both[both > 0]))


def _matthews_from_counts(correct: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> float:
    """Gorodkin, Comparing two K-category assignments by a K-category correlation coefficient (2004), equation 8."""
    rows = labels.sum()
    labels, predictions = labels / rows, predictions / rows
    spread = (1 - labels @ labels) * (1 - predictions @ predictions)
    return (correct.sum() / rows - labels @ predictions) / spread**0.5 if spread > 0 else 0.0


ACCURACY = Metric(_accuracy, _accuracy_from_counts)
F1 = Metric(_f1, _f1_from_counts)  # of class 1; 0 without correct predictions of it
MACRO_F1 = Metric(_macro_f1, _macro_f1_from_counts)  # mean over the classes that occur in labels or predictions
MATTHEWS = Metric(_matthews, _matthews_from_counts)  # 0 if labels or predictions are all of one class
PEARSON = Metric(_pearson, correlation_of="numbers")  # 0 if labels or predictions are constant, or not all finite
SPEARMAN = Metric(_spearman, correlation_of="ranks")  # ties have their mean rank; 0 as for PEARSON

# Task of GLUE -> its metrics by name, the main one first: Wang et al. (2019), table 1.
GLUE = {
    "cola": {"matthews": MATTHEWS},
    "sst2": {"accuracy": ACCURACY},
    "mrpc": {"f1": F1, "accuracy": ACCURACY},
    "stsb": {"pearson": PEARSON, "spearman": SPEARMAN},
    "qqp": {"f1": F1, "accuracy": ACCURACY},
    "mnli": {"accuracy": ACCURACY},
    "qnli": {"accuracy": ACCURACY},
    "rte": {"accuracy": ACCURACY},
    "wnli": {"accuracy": ACCURACY},
    "ax": {"matthews": MATTHEWS},
}
# Head -> the metrics of a user's own table.
TABLE = {
    "classify": {"accuracy": ACCURACY, "macro_f1": MACRO_F1},
    "regress": {"pearson": PEARSON, "spearman": SPEARMAN},
}


def scores(metrics: dict[str, Metric], labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Returns the score of each metric, in their order."""
    return {name: metric.compute(labels, predictions) for name, metric in metrics.items()}


def bootstrap(
    metric: Metric, labels: np.ndarray, predictions: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0
) -> np.ndarray:
    """Returns scores [resamples, S] of S models, each on as many rows as there are, drawn with replacement.

    A draw takes the same rows for all models (Efron and Tibshirani, An Introduction to the Bootstrap (1993)). Only the
    rows vary, not the seed of a training.

    labels: [N]
    predictions: [S, N]
    """
    rng, rows = np.random.default_rng(seed), len(labels)
    if metric.from_counts is None:
        picks = (rng.integers(rows, size=rows) for _ in range(resamples))
        if not metric.correlation_of:
            return np.array([[metric.compute(labels[pick], model[pick]) for model in predictions] for pick in picks])
        of_ranks, columns = metric.correlation_of == "ranks", (labels, *predictions)
        columns = tuple(_code(column) if of_ranks else column.astype(np.float64) for column in columns)
        return np.array(
            [_correlations(np.bincount(pick, minlength=rows).astype(np.float64), columns, of_ranks) for pick in picks]
        )
    # Rows with the same label and predictions form a kind, and a draw of kinds is multinomial. For one model, the
    # 40,430 rows of QQP are of four kinds.
    kinds, counts = np.unique(np.stack([labels, *predictions]), axis=1, return_counts=True)
    num_classes, (label, *predicted) = 1 + max(kinds.max(), 1), kinds
    from_counts = metric.from_counts

    def model_scores(draw: np.ndarray) -> Iterator[float]:
        labelled = np.bincount(label, draw, num_classes)
        for prediction in predicted:
            correct = np.bincount(label, draw * (prediction == label), num_classes)
            yield from_counts(correct, labelled, np.bincount(prediction, draw, num_classes))

    draws = rng.multinomial(rows, counts / rows, size=resamples)
    return np.array([list(model_scores(draw)) for draw in draws])


def _code(numbers: np.ndarray) -> np.ndarray:
    """Returns the place of each number among the different ones, in ascending order."""
    return np.unique(numbers, return_inverse=True)[1]


def _correlations(draw: np.ndarray, columns: Sequence[np.ndarray], of_ranks: bool) -> list[float]:
    """Returns the correlation of the first column with each other one, for rows that were drawn `draw` [N] times.

    columns: numbers [N]; with `of_ranks` their `_code`, of which the ranks among the drawn rows follow without sorting
    """
    if of_ranks:
        columns = [_ranks(draw, code) for code in columns]
    is_drawn, rows = draw > 0, draw.sum()
    centred = [column - draw @ column / rows for column in columns]
    is_constant = [np.ptp(column[is_drawn]) == 0 for column in columns]
    labels, *predictions = centred
    values = []
    for prediction, has_no_spread in zip(predictions, is_constant[1:], strict=True):
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            spread = np.sqrt(draw @ labels**2) * np.sqrt(draw @ prediction**2)
            value = 0.0 if is_constant[0] or has_no_spread else float(draw @ (labels * prediction) / spread)
        values.append(value if np.isfinite(value) else 0.0)
    return values


def _ranks(draw: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Returns the rank of each row's number among the drawn rows; equal numbers have their mean rank."""
    counts = np.bincount(code, draw)
    return (np.cumsum(counts) - (counts - 1) / 2)[code]


def bootstrap_means(values: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> np.ndarray:
    """Returns `bootstrap` [resamples, S] of a metric that is the mean of its rows' values [S, N].

    For values [S, N, K], of K metrics, the result is [resamples, S, K].
    """
    rng, rows = np.random.default_rng(seed), values.shape[1]
    return np.stack([values[:, rng.integers(rows, size=rows)].mean(1) for _ in range(resamples)])


def interval(draws: np.ndarray) -> tuple[float, float]:
    """Returns the 2.5th and the 97.5th percentile: 95% of the draws are between them."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
