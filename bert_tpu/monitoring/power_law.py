"""Fits a falling power law to the losses of a run, to predict its end and to notice a rise."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FEWEST = 4  # points that a fit needs
EXPONENTS = np.linspace(0.1, 1.5, 29)


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
    """Fits a falling power law with a floor of 0 or more by least squares; None for fewer than FEWEST points.

    The form is that of Kaplan et al. 2020, arXiv:2001.08361, with the irreducible part of Henighan et al. 2020,
    arXiv:2010.14701. The fit tries each exponent in turn; the other two parameters are linear.
    """
    if len(steps) < FEWEST:
        return None
    x, y = np.asarray(steps, float), np.asarray(losses, float)
    least, best = np.inf, None
    for exponent in EXPONENTS:
        falling = x**-exponent
        design = np.stack([np.ones_like(falling), falling], axis=1)
        (floor, drop), *_ = np.linalg.lstsq(design, y, rcond=None)
        if floor < 0:
            floor, drop = 0.0, float(falling @ y / (falling @ falling))
        residuals = y - floor - drop * falling
        squares = residuals @ residuals
        if best is None or squares < least:
            deviation = float(np.sqrt(squares / max(1, len(x) - 3)))
            least, best = squares, Curve(float(floor), float(drop), float(exponent), deviation)
    return best
