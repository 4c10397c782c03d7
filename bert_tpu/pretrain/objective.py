"""An objective of pretraining: the losses that training minimizes, and the metrics that reports show."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import jax

from bert_tpu.model import transformer
from bert_tpu.monitoring import metrics
from bert_tpu.training import jobs


class Loss(Protocol):
    """The loss of an objective."""

    def __call__(
        self, bert: transformer.Bert, params: jobs.Params, batch: jobs.Batch, draw: jobs.Draw | None,
        teacher: transformer.TeacherOutputs | None = None,
    ) -> jobs.Sums:  # fmt: skip
        """Returns the sums of some rows of a batch.

        bert: the model
        params: packed, as param_layout.pack
        batch: the rows
        draw: randomness; None for no dropout
        teacher: its scores of these rows; then the sums have metrics.DISTILL_LOSS, too, and if it has vectors
            metrics.RELATION_LOSS
        """


class Objective(NamedTuple):
    """A training objective. Each is one file in this folder and a name in `objectives.find`."""

    losses: tuple[str, ...]  # sums whose means the log adds up as "loss"; a teacher's are not among them
    metrics: tuple[metrics.Metric, ...]  # in the order of reports; each has a sum of its name
    loss: Loss
    counts: Callable[[jobs.Batch], dict[str, jax.Array]]  # whole batch -> the count that divides each of `losses`
