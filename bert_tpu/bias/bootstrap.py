"""Bootstrap intervals: the examples are drawn again with replacement, as many as there are.

The percentile interval of Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. A statistic takes
weights, the number of times that each example was drawn; so one function computes the value and all draws.

Letters: R draws  N examples
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bert_tpu.tasks import metrics

SEED = 0
BLOCK = 1 << 22  # weights in memory at a time


class Estimate(NamedTuple):
    """A value, the bounds that contain 95% of its draws, and the number of examples."""

    value: float
    low: float
    high: float
    examples: int


def estimate(statistic: Callable[[np.ndarray], np.ndarray], examples: int) -> Estimate | None:
    """Returns the value of `statistic` and its interval over metrics.RESAMPLES draws; None without examples.

    statistic: weights [R, N] -> values [R]; weights of one give the value itself.
    """
    if not examples:
        return None
    rng = np.random.default_rng(SEED)
    draws: list[np.ndarray] = []
    chances = np.full(examples, 1 / examples)
    while (left := metrics.RESAMPLES - sum(len(draw) for draw in draws)) > 0:
        draws.append(statistic(rng.multinomial(examples, chances, size=min(left, max(1, BLOCK // examples)))))
    low, high = metrics.interval(np.concatenate(draws))
    return Estimate(float(statistic(np.ones((1, examples)))[0]), low, high, examples)


def mean(values_N: npt.ArrayLike) -> Estimate | None:
    """Returns the mean of the values with its interval."""
    values_N = np.asarray(values_N, np.float64)
    return estimate(lambda weights_RN: weights_RN @ values_N / len(values_N), len(values_N))


def ratio(parts_N: npt.ArrayLike, wholes_N: npt.ArrayLike) -> Estimate | None:
    """Returns sum(parts) / sum(wholes) with its interval. An example has one of each; its whole is above 0."""
    parts_N, wholes_N = np.asarray(parts_N, np.float64), np.asarray(wholes_N, np.float64)
    return estimate(lambda weights_RN: (weights_RN @ parts_N) / (weights_RN @ wholes_N), len(parts_N))


def pearson(x_N: Sequence[float], y_N: Sequence[float]) -> Estimate | None:
    """Returns Pearson's correlation with its interval; 0 if a side is constant."""
    x0_N, y0_N = (np.asarray(side, np.float64) - np.mean(side) if len(side) else np.zeros(0) for side in (x_N, y_N))

    def correlation(weights_RN: np.ndarray) -> np.ndarray:
        share_RN = weights_RN / weights_RN.sum(1, keepdims=True)
        x_R, y_R = share_RN @ x0_N, share_RN @ y0_N
        spread_R = (share_RN @ x0_N**2 - x_R**2) * (share_RN @ y0_N**2 - y_R**2)
        together_R = share_RN @ (x0_N * y0_N) - x_R * y_R
        sound_R = spread_R > 1e-24 * (np.mean(x0_N**2) * np.mean(y0_N**2))
        return np.where(sound_R, together_R / np.sqrt(np.where(sound_R, spread_R, 1.0)), 0.0)

    return estimate(correlation, len(x_N))
