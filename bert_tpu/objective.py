"""What pretraining minimizes: the mean MLM loss of a batch plus its mean NSP loss."""

import jax
import jax.numpy as jnp

from bert_tpu import layout, train

NAMES = ("mlm_loss", "nsp_loss")


def counts(batch):
    """What the objectives are divided by: predictions (plus 1e-5, as run_pretraining.py has it), and rows."""
    return {
        "mlm_loss": jnp.sum(batch["masked_ids"] > 0) + 1e-5,
        "nsp_loss": jnp.float32(batch["next_sentence_label"].shape[0]),
    }


def loss(bert, params, batch, draw) -> train.Sums:
    """Cross entropies in nats and hits of both heads, each as (sum, count); unused slots (id 0) weigh nothing."""
    found = bert.clone(vocab_size=layout.rows(bert.vocab_size)).apply(
        {"params": layout.apart(params)}, batch["input_ids"], batch["token_type_ids"], batch["attention_mask"],
        batch["masked_positions"], batch["masked_ids"], draw=draw, method="losses",
    )  # fmt: skip
    weights = (batch["masked_ids"] > 0).astype(jnp.float32)
    labels = batch["next_sentence_label"]
    label_scores_B = jnp.take_along_axis(found.nsp_BC, labels[:, None], axis=-1)[:, 0]
    nsp_losses = jax.nn.logsumexp(found.nsp_BC, axis=-1) - label_scores_B
    nsp_hits = (label_scores_B >= jnp.max(found.nsp_BC, axis=-1)).astype(jnp.float32)
    ones = jnp.ones(labels.shape, jnp.float32)
    return _sums("mlm", found.mlm_BM, found.mlm_hits_BM, weights) | _sums("nsp", nsp_losses, nsp_hits, ones)


def _sums(name, losses, hits, weights):
    count = jnp.sum(weights)
    return {f"{name}_loss": (jnp.sum(weights * losses), count), f"{name}_accuracy": (jnp.sum(weights * hits), count)}
