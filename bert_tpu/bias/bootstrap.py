"""A number with the interval that its examples leave it: drawn again with replacement, as many as there are.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13: the percentile interval. What a statistic is
of drawn examples it is of weights too, how often each of them is there; so one function serves the value and the draws.

Letters: R draws  N examples
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from bert_tpu.tasks import metrics

SEED = 0
BLOCK = 1 << 22  # weights held at a time


class Estimate(NamedTuple):
    """A value, between what 95% of its draws lie, and of how many examples it is."""

    value: float
    low: float
    high: float
    examples: int


def estimate(statistic: Callable[[np.ndarray], np.ndarray], examples: int) -> Estimate | None:
    """`statistic` of weights [R, N] -> [R], at all ones and over scores.RESAMPLES draws; None of no examples."""
    if not examples:
        return None
    rng, drawn = np.random.default_rng(SEED), []
    chances = np.full(examples, 1 / examples)
    while (left := metrics.RESAMPLES - sum(map(len, drawn))) > 0:
        drawn.append(statistic(rng.multinomial(examples, chances, size=min(left, max(1, BLOCK // examples)))))
    low, high = metrics.interval(np.concatenate(drawn))
    return Estimate(float(statistic(np.ones((1, examples)))[0]), low, high, examples)


def mean(values_N) -> Estimate | None:
    """Of the mean of values."""
    values_N = np.asarray(values_N, np.float64)
    return estimate(lambda weights_RN: weights_RN @ values_N / len(values_N), len(values_N))


def ratio(parts_N, wholes_N) -> Estimate | None:
    """Of sum(parts) / sum(wholes), of which each example brings both; its wholes are above 0."""
    parts_N, wholes_N = np.asarray(parts_N, np.float64), np.asarray(wholes_N, np.float64)
    return estimate(lambda weights_RN: (weights_RN @ parts_N) / (weights_RN @ wholes_N), len(parts_N))


def pearson(x_N, y_N) -> Estimate | None:
    """Of Pearson's correlation; 0 where a side is constant."""
    x_N, y_N = (np.asarray(side, np.float64) - np.mean(side) if len(side) else np.zeros(0) for side in (x_N, y_N))

    def correlation(weights_RN):
        share_RN = weights_RN / weights_RN.sum(1, keepdims=True)
        x_R, y_R = share_RN @ x_N, share_RN @ y_N
        spread_R = (share_RN @ x_N**2 - x_R**2) * (share_RN @ y_N**2 - y_R**2)
        together_R = share_RN @ (x_N * y_N) - x_R * y_R
        sound_R = spread_R > 1e-24 * (np.mean(x_N**2) * np.mean(y_N**2))
        return np.where(sound_R, together_R / np.sqrt(np.where(sound_R, spread_R, 1.0)), 0.0)

    return estimate(correlation, len(x_N))
