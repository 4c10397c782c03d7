"""Computes how many times less compute one recipe needs than another for the same held-out loss, with intervals.

gain = compute that the reference needs for the other's loss / compute that the other spent. The reference's loss is
known at a few horizons only. Two curves through them say what it needs in between and beyond:

"power": loss = a + b x compute ** -k (Kaplan et al. 2020, arXiv:2001.08361, with the floor of Henighan et al. 2020,
    arXiv:2010.14701). With three horizons it has as many parameters as points, so no residual tests it. A loss below
    the floor `a` has the gain infinity.
"line": straight lines in log(compute) between neighbouring horizons; the outer ones go on. Losses flatten, so beyond
    the largest horizon this gain is the smaller one, and the careful one.

Letters: R resamples  S seeds  H horizons
"""

from collections.abc import Callable
import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy import special

from bert_tpu.monitoring import power_law

EXPONENTS = (0.02, 2.0)  # the least and the most
MOST_EXACT = 8  # seeds up to which all resamples are listed: 6,435 of them
DRAWS = 10_000  # resamples of more seeds, drawn at random
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """The 95% bounds of a mean or a gain."""

    low: float
    high: float


class Gain(NamedTuple):
    """A gain by one of CURVES.

    value: from the means over the seeds
    bootstrap: interval by a bootstrap over the seeds. With 3 seeds it contains the truth in 3 of 4 cases only
    t: interval by Student's t of the seeds' shares in log(gain); not a number with one seed
    beyond: factor by which the reference's compute is beyond its horizons, below 1 before the first; 1: inside
    """

    value: float
    bootstrap: Interval
    t: Interval
    beyond: float


def needed_by_power(log_compute_H: np.ndarray, losses_RH: np.ndarray, wanted_R: np.ndarray) -> np.ndarray:
    """Returns log(compute) at which the fitted power law reaches a loss, [R]; infinity below its floor.

    log_compute_H: of the horizons, ascending
    losses_RH: losses there
    wanted_R: the loss to reach
    """
    floor_R, drop_R, exponent_R = power_law.fit_rows(log_compute_H - log_compute_H[-1], losses_RH, EXPONENTS)
    with np.errstate(divide="ignore", invalid="ignore"):
        above_R = np.where(wanted_R > floor_R, (wanted_R - floor_R) / drop_R, 0.0)
        return log_compute_H[-1] - np.log(above_R) / exponent_R


class Law(NamedTuple):
    """A fitted loss = floor + drop x (compute / compute of the largest horizon) ** -exponent.

    residuals: difference between the fit and the mean at each horizon, in nats, without sign
    """

    floor: float
    drop: float
    exponent: float
    residuals: tuple[float, ...] = ()

    def at(self, share: np.ndarray) -> np.ndarray:
        """Returns the losses at these shares of the largest horizon's compute."""
        return self.floor + self.drop * share**-self.exponent


def fit_means(compute_H: np.ndarray, losses_SH: np.ndarray) -> Law:
    """Returns the power law of the means over the seeds."""
    share_H, mean_H = compute_H / compute_H[-1], losses_SH.mean(0)
    ([floor], [drop], [exponent]) = power_law.fit_rows(np.log(share_H), mean_H[None], EXPONENTS)
    law = Law(float(floor), float(drop), float(exponent))
    return law._replace(residuals=tuple(np.abs(law.at(share_H) - mean_H).tolist()))


def needed_by_line(log_compute_H: np.ndarray, losses_RH: np.ndarray, wanted_R: np.ndarray) -> np.ndarray:
    """Returns log(compute) at which straight lines first reach a loss, [R]; arguments as in `needed_by_power`.

    If the outer line does not fall, a loss beyond it is never reached: infinity, or minus infinity before the first.
    """
    are_reached_RH = losses_RH <= wanted_R[:, None]
    first_R = np.where(are_reached_RH.any(1), are_reached_RH.argmax(1), len(log_compute_H) - 1)
    places_R = np.maximum(first_R - 1, 0)  # of the line that ends there; the first one goes on to the left
    rows_R = np.arange(len(losses_RH))
    left_R, right_R = losses_RH[rows_R, places_R], losses_RH[rows_R, places_R + 1]
    width_R = log_compute_H[places_R + 1] - log_compute_H[places_R]
    with np.errstate(divide="ignore", invalid="ignore"):
        shares_R = np.where(left_R > right_R, (left_R - wanted_R) / (left_R - right_R), np.inf)
    outside_R = np.where(wanted_R >= left_R, -np.inf, np.inf)
    return np.where(np.isfinite(shares_R), log_compute_H[places_R] + shares_R * width_R, outside_R)


Needed = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
CURVES: dict[str, tuple[Needed, int]] = {  # name -> (function, fewest horizons)
    "power": (needed_by_power, 3),
    "line": (needed_by_line, 2),
}


def resamples(seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the distinct ways to draw `seeds` seeds again with replacement: counts [R, S], and probabilities [R].

    There are 10 of 3 seeds and 126 of 5. Of more than MOST_EXACT seeds they are DRAWS random ones.
    """
    if seeds > MOST_EXACT:
        counts = np.random.default_rng(0).multinomial(seeds, np.full(seeds, 1 / seeds), size=DRAWS)
        return counts, np.full(DRAWS, 1 / DRAWS)
    drawn = list(itertools.combinations_with_replacement(range(seeds), seeds))
    counts = np.array([np.bincount(draw, minlength=seeds) for draw in drawn])
    ways = [math.factorial(seeds) / math.prod(map(math.factorial, row)) for row in counts.tolist()]
    return counts, np.array(ways) / seeds**seeds


def gain(
    curve: str, compute_H: np.ndarray, reference_SH: np.ndarray, spent: float, losses_S: np.ndarray
) -> Gain | None:
    """Returns the gain of a recipe over the reference, or None if there are too few horizons for the curve.

    curve: a name in CURVES
    compute_H: compute of the reference at its horizons, ascending
    reference_SH: its losses; row s is of the seed that is also row s of `losses_S`
    spent: compute of the other recipe
    losses_S: its losses
    """
    needed, fewest = CURVES[curve]
    if len(compute_H) < fewest:
        return None
    log_compute_H, seeds = np.log(compute_H), len(losses_S)

    def log_gains(weights_RS: np.ndarray) -> np.ndarray:
        means_RS = weights_RS / weights_RS.sum(1, keepdims=True)
        return needed(log_compute_H, means_RS @ reference_SH, means_RS @ losses_S) - np.log(spent)

    (value,) = log_gains(np.ones((1, seeds)))
    beyond = max(value + np.log(spent) - log_compute_H[-1], 0) + min(value + np.log(spent) - log_compute_H[0], 0)
    return Gain(_exp(value), _bootstrap(log_gains, value, seeds), _t_interval(log_gains, value, seeds), _exp(beyond))


def _exp(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(value))


def _bootstrap(log_gains: Callable[[np.ndarray], np.ndarray], value: float, seeds: int) -> Interval:
    """Returns the percentile interval over the resamples of the seeds, both recipes' of a seed together."""
    counts, probabilities = resamples(seeds)
    draws = log_gains(counts)
    order = np.argsort(draws)
    cumulative = np.cumsum(probabilities[order])
    edges = [draws[order][np.searchsorted(cumulative, p - 1e-12)] for p in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)]
    return Interval(_exp(edges[0]), _exp(edges[1]))


def _t_interval(log_gains: Callable[[np.ndarray], np.ndarray], value: float, seeds: int) -> Interval:
    """Returns value -/+ t x the jackknife's standard error over the seeds (Efron & Tibshirani 1993, chapter 11).

    For a statistic that is linear in the losses it is the paired t interval.
    """
    if seeds < 2:
        return Interval(math.nan, math.nan)
    without = log_gains(1.0 - np.eye(seeds))
    with np.errstate(invalid="ignore"):
        error = np.sqrt((seeds - 1) / seeds * np.sum((without - without.mean()) ** 2))
        half = special.stdtrit(seeds - 1, (1 + CONFIDENCE) / 2) * error
    if not np.isfinite(half):
        return Interval(0.0, math.inf)  # a set of seeds reaches the floor: nothing bounds the gain
    return Interval(_exp(value - half), _exp(value + half))


def mean_interval(values_S: np.ndarray) -> Interval:
    """Returns the 95% interval of the mean by Student's t; not a number with one value."""
    if len(values_S) < 2:
        return Interval(math.nan, math.nan)
    half = (
        special.stdtrit(len(values_S) - 1, (1 + CONFIDENCE) / 2) * np.std(values_S, ddof=1) / math.sqrt(len(values_S))
    )
    return Interval(float(np.mean(values_S) - half), float(np.mean(values_S) + half))
