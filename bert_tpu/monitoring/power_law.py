"""Fits a falling power law to losses: those of a run, to predict its end, or those of runs of different lengths.

The form is that of Kaplan et al. 2020, arXiv:2001.08361, with the irreducible part of Henighan et al. 2020,
arXiv:2010.14701.

Letters: N points  R rows, each with losses of its own  K exponents
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import numpy as np

FEWEST = 4  # points that the fit of a run needs
EXPONENTS = (0.1, 1.5)  # of a run: the least and the most
GRID, REFINED = 93, 9  # exponents tried at first, and around the best one
CLOSE = 1e-7  # distance of neighbouring exponents, as a share, at which the search ends


class Curve(NamedTuple):
    """A fitted loss = floor + drop x step ** -exponent, and the standard deviation of its residuals, in nats."""

    floor: float
    drop: float
    exponent: float
    deviation: float

    def at(self, step: int) -> float:
        """The predicted loss at `step`."""
        return self.floor + self.drop * step**-self.exponent


def fit(steps: Sequence[int], losses: Sequence[float]) -> Curve | None:
    """Returns the curve of a run's losses at some steps, from 1; None for fewer than FEWEST."""
    if len(steps) < FEWEST:
        return None
    log_step_N, losses_N = np.log(np.asarray(steps, float)), np.asarray(losses, float)
    last = log_step_N[-1]
    ([floor], [drop], [exponent]) = fit_rows(log_step_N - last, losses_N[None], EXPONENTS)
    residuals_N = losses_N - floor - drop * np.exp(exponent * (last - log_step_N))
    deviation = math.sqrt(residuals_N @ residuals_N / max(1, len(steps) - 3))
    return Curve(float(floor), float(drop * np.exp(exponent * last)), float(exponent), deviation)


def fit_rows(
    log_x_N: np.ndarray, losses_RN: np.ndarray, exponents: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fits loss = floor + drop * x ** -exponent by least squares, with a floor of 0 or more, in each row.

    exponents: the least and the most

    Tries exponents between these two, and then ever closer ones around the best: a grid alone is wrong by a third of a
    gain beyond the points. The other two parameters are linear. Returns (floor, drop, exponent), [R] each.
    """
    low, high = map(math.log, exponents)
    log_exponent_RK = np.tile(np.linspace(low, high, GRID), (len(losses_RN), 1))
    step, rows_R = (high - low) / (GRID - 1), np.arange(len(losses_RN))
    while True:
        floor_RK, drop_RK, rest_RK = _fit_linear(log_x_N, losses_RN, np.exp(log_exponent_RK))
        best_R = np.argmin(rest_RK, axis=1)
        log_exponent_R = log_exponent_RK[rows_R, best_R]
        if step < CLOSE:
            return floor_RK[rows_R, best_R], drop_RK[rows_R, best_R], np.exp(log_exponent_R)
        near_K = np.linspace(-step, step, REFINED)
        log_exponent_RK = np.clip(log_exponent_R[:, None] + near_K, low, high)
        step = near_K[1] - near_K[0]


def _fit_linear(
    log_x_N: np.ndarray, losses_RN: np.ndarray, exponents_RK: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the best floor and drop for each exponent, and their sum of squared residuals; [R, K] each."""
    falling_RKN = np.exp(-exponents_RK[..., None] * log_x_N)
    centred_RKN = falling_RKN - falling_RKN.mean(-1, keepdims=True)
    losses_R1N = losses_RN[:, None]
    squares_RK = np.maximum((centred_RKN**2).sum(-1), np.finfo(float).tiny)  # 0 if all points are at one x: no drop
    free_RK = (losses_R1N * centred_RKN).sum(-1) / squares_RK
    floor_RK = losses_R1N.mean(-1) - free_RK * falling_RKN.mean(-1)
    through_0_RK = (losses_R1N * falling_RKN).sum(-1) / (falling_RKN**2).sum(-1)
    drop_RK = np.where(floor_RK < 0, through_0_RK, free_RK)
    floor_RK = np.maximum(floor_RK, 0.0)
    rest_RKN = losses_R1N - floor_RK[..., None] - drop_RK[..., None] * falling_RKN
    return floor_RK, drop_RK, (rest_RKN**2).sum(-1)
