"""The objective MLM: the mean cross entropy of a batch's masked pieces, without next sentence prediction."""

import functools
from typing import cast

import jax
import jax.numpy as jnp

from bert_tpu.model import param_layout, relations, transformer
from bert_tpu.monitoring import metrics
from bert_tpu.pretrain import objective
from bert_tpu.training import jobs

LOSS, ACCURACY = metrics.MLM_LOSS.name, metrics.MLM_ACCURACY.name


def counts(batch: jobs.Batch) -> dict[str, jax.Array]:
    """The number of predictions, plus 1e-5 as in run_pretraining.py."""
    return {LOSS: jnp.sum(batch["masked_ids"] > 0) + 1e-5}


def loss(
    bert: transformer.Bert, params: jobs.Params, batch: jobs.Batch, draw: jobs.Draw | None,
    teacher: transformer.TeacherOutputs | None = None,
) -> jobs.Sums:  # fmt: skip
    """Cross entropies in nats and hits of the masked pieces, each as (sum, count). Arguments as in objective.Loss."""
    return sums(outputs(bert, params, batch, draw, teacher), batch)


def outputs(
    bert: transformer.Bert, params: jobs.Params, batch: jobs.Batch, draw: jobs.Draw | None,
    teacher: transformer.TeacherOutputs | None = None,
) -> transformer.Losses:  # fmt: skip
    """Losses and hits of the masked pieces, logits of the pairs, and distances from the teacher."""
    apply = functools.partial(
        bert.clone(vocab_size=param_layout.padded_size(bert.vocab_size)).apply,
        {"params": param_layout.split_layers(params)},
        batch["input_ids"], batch["token_type_ids"], batch["attention_mask"], batch["masked_positions"],
        batch["masked_ids"], batch.get("example_starts"), draw=draw, teacher=teacher, method="losses",
    )  # fmt: skip
    if teacher is None or teacher.vectors is None:
        return cast(transformer.Losses, apply())
    losses, sown = apply(mutable=[relations.SOWN])
    of_rows = cast(transformer.Losses, losses)
    mask_B1LT = transformer.attention_mask(batch["attention_mask"], batch.get("example_starts"))
    vectors = relations.of_last_layer(sown, bert.num_layers), teacher.vectors
    return of_rows._replace(relation_distances_BL=relations.distances(*vectors, mask_B1LT, teacher.relation_heads))


def sums(losses: transformer.Losses, batch: jobs.Batch) -> jobs.Sums:
    """Sums over the masked pieces, and of relations over the tokens. Unused slots and padding have no weight."""
    weights = (batch["masked_ids"] > 0).astype(jnp.float32)
    values = {LOSS: losses.mlm_BM, ACCURACY: losses.mlm_hits_BM}
    if losses.teacher_distances_BM is not None:
        values[metrics.DISTILL_LOSS] = losses.teacher_distances_BM
    count = jnp.sum(weights)
    of_places = {name: (jnp.sum(weights * values_BM), count) for name, values_BM in values.items()}
    if losses.relation_distances_BL is None:
        return of_places
    is_token_BL = batch["attention_mask"] > 0
    distance = jnp.sum(jnp.where(is_token_BL, losses.relation_distances_BL, 0.0))
    return of_places | {metrics.RELATION_LOSS: (distance, jnp.sum(is_token_BL).astype(jnp.float32))}


OBJECTIVE = objective.Objective((LOSS,), (metrics.MLM_LOSS, metrics.MLM_ACCURACY), loss, counts)
