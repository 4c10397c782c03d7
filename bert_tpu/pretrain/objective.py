"""What pretraining minimizes: the mean MLM loss of a batch plus its mean NSP loss."""

import jax
import jax.numpy as jnp

from bert_tpu.model import param_layout
from bert_tpu.training import jobs

NAMES = ("mlm_loss", "nsp_loss")


def counts(batch):
    """What the objectives are divided by: predictions (plus 1e-5, as run_pretraining.py has it), and examples."""
    labels = batch["next_sentence_label"]
    return {
        "mlm_loss": jnp.sum(batch["masked_ids"] > 0) + 1e-5,
        "nsp_loss": jnp.float32(labels.shape[0]) if labels.ndim == 1 else jnp.sum(labels >= 0).astype(jnp.float32),
    }


def loss(bert, params, batch, draw) -> jobs.Sums:
    """Cross entropies in nats and hits of both heads, each as (sum, count).

    Unused slots weigh nothing: of predictions those with id 0, of examples that share a row those with label -1.
    """
    found = bert.clone(vocab_size=param_layout.padded_size(bert.vocab_size)).apply(
        {"params": param_layout.split_layers(params)},
        batch["input_ids"], batch["token_type_ids"], batch["attention_mask"], batch["masked_positions"],
        batch["masked_ids"], batch.get("example_starts"), draw=draw, method="losses",
    )  # fmt: skip
    weights = (batch["masked_ids"] > 0).astype(jnp.float32)
    labels = batch["next_sentence_label"]
    used = jnp.ones(labels.shape, jnp.float32) if labels.ndim == 1 else (labels >= 0).astype(jnp.float32)
    label_scores = jnp.take_along_axis(found.nsp, labels[..., None], axis=-1, mode="clip")[..., 0]
    nsp_losses = jax.nn.logsumexp(found.nsp, axis=-1) - label_scores
    nsp_hits = (label_scores >= jnp.max(found.nsp, axis=-1)).astype(jnp.float32)
    return _sums("mlm", found.mlm_BM, found.mlm_hits_BM, weights) | _sums("nsp", nsp_losses, nsp_hits, used)


def _sums(name, losses, hits, weights):
    count = jnp.sum(weights)
    return {f"{name}_loss": (jnp.sum(weights * losses), count), f"{name}_accuracy": (jnp.sum(weights * hits), count)}
