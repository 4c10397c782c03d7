"""An objective of pretraining: the losses that training minimizes, and the metrics that reports show."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from bert_tpu.model import transformer
from bert_tpu.monitoring import metrics
from bert_tpu.training import jobs


class Objective(NamedTuple):
    """A training objective. Each is one file in this folder and a name in `pretraining.find_objective`."""

    losses: tuple[str, ...]  # the sums whose means add up to the loss
    metrics: tuple[metrics.Metric, ...]  # in the order of reports; each has a sum of its name
    # (model, params, rows of a batch, randomness or None for no dropout) -> sums
    loss: Callable[[transformer.Bert, jobs.Params, jobs.Batch, jobs.Draw | None], jobs.Sums]
    counts: Callable[[jobs.Batch], dict[str, jax.Array]]  # whole batch -> the count that divides each of `losses`
