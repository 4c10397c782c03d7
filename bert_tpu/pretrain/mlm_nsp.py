"""BERT's objective MLM + NSP: the mean MLM loss of a batch plus its mean NSP loss."""

import jax
import jax.numpy as jnp

from bert_tpu.model import transformer
from bert_tpu.monitoring import metrics
from bert_tpu.pretrain import mlm, objective
from bert_tpu.training import jobs

NSP_LOSS, NSP_ACCURACY = "nsp_loss", metrics.NSP_ACCURACY.name


def counts(batch: jobs.Batch) -> dict[str, jax.Array]:
    """The number of predictions, as in mlm.py, and of pairs."""
    return mlm.counts(batch) | {NSP_LOSS: jnp.maximum(jnp.sum(_weights(batch)), 1.0)}  # a batch may have none


def loss(
    bert: transformer.Bert, params: jobs.Params, batch: jobs.Batch, draw: jobs.Draw | None,
    teacher: transformer.TeacherOutputs | None = None,
) -> jobs.Sums:  # fmt: skip
    """Cross entropies in nats and hits of both heads, each as (sum, count). Arguments as in objective.Loss.

    Examples that share a row have one label each; those with label -1, which are unused slots or single segments,
    have no weight.
    """
    outputs = mlm.outputs(bert, params, batch, draw, teacher)
    labels, weights = batch["next_sentence_label"], _weights(batch)
    label_scores = jnp.take_along_axis(outputs.nsp, labels[..., None], axis=-1, mode="clip")[..., 0]
    losses = jax.nn.logsumexp(outputs.nsp, axis=-1) - label_scores
    hits = (label_scores >= jnp.max(outputs.nsp, axis=-1)).astype(jnp.float32)
    count = jnp.sum(weights)
    return mlm.sums(outputs, batch) | {
        NSP_LOSS: (jnp.sum(weights * losses), count),
        NSP_ACCURACY: (jnp.sum(weights * hits), count),
    }


def _weights(batch: jobs.Batch) -> jax.Array:
    """1 for each pair, 0 for an unused slot or a single segment: [rows], or [rows, slots] if examples share rows."""
    return (batch["next_sentence_label"] >= 0).astype(jnp.float32)


OBJECTIVE = objective.Objective(
    losses=(*mlm.OBJECTIVE.losses, NSP_LOSS),
    metrics=(*mlm.OBJECTIVE.metrics, metrics.NSP_ACCURACY),
    loss=loss,
    counts=counts,
)
