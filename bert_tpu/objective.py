"""What pretraining minimizes: the mean MLM loss of a batch plus its mean NSP loss."""

import jax
import jax.numpy as jnp

from bert_tpu import train

NAMES = ("mlm_loss", "nsp_loss")


def counts(batch):
    """What the objectives are divided by: predictions (plus 1e-5, as run_pretraining.py has it), and rows."""
    return {
        "mlm_loss": jnp.sum(batch["masked_ids"] > 0) + 1e-5,
        "nsp_loss": jnp.float32(batch["next_sentence_label"].shape[0]),
    }


def loss(bert, params, batch, key) -> train.Sums:
    """Cross entropies in nats and hits of both heads, each as (sum, count); unused slots (id 0) weigh nothing."""
    logits = bert.apply(
        {"params": params}, batch["input_ids"], batch["token_type_ids"], batch["attention_mask"],
        batch["masked_positions"], dropout_key=key,
    )  # fmt: skip
    weights = (batch["masked_ids"] > 0).astype(jnp.float32)
    labels = batch["next_sentence_label"]
    return _head("mlm", logits.mlm_BMV, batch["masked_ids"], weights) | _head(
        "nsp", logits.nsp_BC, labels, jnp.ones(labels.shape, jnp.float32)
    )


def _head(name, logits, labels, weights):
    label_logits = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1) - label_logits
    # Instead of an argmax, which would carry indices through the reduction: nothing is above the label's logit.
    hits = (label_logits >= jnp.max(logits, axis=-1)).astype(jnp.float32)
    count = jnp.sum(weights)
    return {f"{name}_loss": (jnp.sum(weights * losses), count), f"{name}_accuracy": (jnp.sum(weights * hits), count)}
