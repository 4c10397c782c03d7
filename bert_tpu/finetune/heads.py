"""The heads of fine-tuning: their outputs for encoded rows, and their losses (Devlin et al. 2019, section 4).

Letters: B batch  L tokens  E examples of a row  D width  C classes
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bert_tpu.data import token_rows
from bert_tpu.model import dropout, layers, param_layout, transformer
from bert_tpu.training import jobs

OBJECTIVES = ("loss",)
TOKEN_HEADS = ("span", "tag")  # heads with an output for each token; the others have one for each example


class Model(NamedTuple):
    """An encoder with a head."""

    bert: transformer.Bert
    head: str  # a kind that tasks.task.Task names
    classes: int  # 1 for "regress", 2 for "span"


def init(model: Model, key: jax.Array) -> dict[str, Any]:
    """Draws float32 parameters {"embeddings", "layer_0" ..., "pooler", "head"}, as transformer.init does."""
    fresh = transformer.init(model.bert, key)
    encoder = {name: tree for name, tree in fresh.items() if name not in ("mlm", "nsp")}
    return encoder | {"head": init_head(model, key)}


def init_head(model: Model, key: jax.Array) -> dict[str, jax.Array]:
    """Draws a head: kernel [D, C] and bias [C], which is 0."""
    kernel_DC = layers.INIT(jax.random.fold_in(key, 1), (model.bert.hidden_size, model.classes))
    return {"kernel": kernel_DC, "bias": jnp.zeros(model.classes)}


def outputs(
    model: Model, params: dict[str, Any], batch: dict[str, jax.Array], draw: jobs.Draw | None = None
) -> jax.Array:
    """Returns the head's outputs, float32.

    They are [B, L, C] for "span" and "tag". The other heads see the pooled first token of each example: [B, E, C], or
    [B, C] if the batch has no `example_starts`, so that a row is one example.

    params: as param_layout.pack returns them
    batch: as task_batches.lay_out returns it
    draw: randomness of dropout; None for no dropout
    """
    bert = model.bert.clone(vocab_size=param_layout.padded_size(model.bert.vocab_size))
    encoder = {name: tree for name, tree in params.items() if name != "head"}
    inputs = (batch[name] for name in ("input_ids", "token_type_ids", "attention_mask"))
    starts_BE, of_tokens = batch.get("example_starts"), model.head in TOKEN_HEADS
    places_BE = None if of_tokens else starts_BE  # pooling needs no other token of the last layer
    encoded: Any = bert.apply(
        {"params": param_layout.split_layers(encoder)}, *inputs, draw, starts_BE, places_BE, method="encode"
    )  # fmt: skip
    x = encoded.tokens_BLD if of_tokens else encoded.pooled_BD
    if draw is not None and model.head != "span":  # BERT's authors drop nothing before the span head
        seeds = jax.random.bits(jax.random.fold_in(draw.key, 1), (2,), jnp.uint32)
        seeds = jnp.append(seeds, draw.first_row.astype(jnp.uint32))
        x = dropout.drop(x, seeds, model.bert.dropout)
    head = params["head"]
    return jnp.dot(x.astype(jnp.float32), head["kernel"], precision="highest") + head["bias"]


def counts(model: Model, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns the divisor of the loss: the number of examples, or of tokens with a label. It is at least 1."""
    return {"loss": jnp.maximum(jnp.sum(_weights(model, batch)), 1.0)}


def loss(model: Model, params: dict[str, Any], batch: dict[str, jax.Array], draw: jobs.Draw | None) -> jobs.Sums:
    """Returns sums of the loss and, except for "regress", of the accuracy.

    The loss is the cross entropy in nats; for "span" the mean of both ends'; for "regress" the squared error.
    Arguments are those of `outputs`.
    """
    values, labels, weights = outputs(model, params, batch, draw), batch["labels"], _weights(model, batch)
    if model.head == "regress":
        errors_BE = values[..., 0] - jax.lax.bitcast_convert_type(labels, jnp.float32)
        # In a slot without an example the label's bits are not a number, and 0 times that is not one either.
        squares_BE = jnp.where(weights > 0, errors_BE, 0.0) ** 2
        return {"loss": (jnp.sum(squares_BE), jnp.sum(weights))}
    if model.head == "span":  # a class for each token of the example
        own_BEL = batch["attention_mask"][:, None] == 1 + jnp.arange(labels.shape[1])[:, None]
        values = jnp.where(own_BEL[:, :, None], values.swapaxes(-1, -2)[:, None], -1e9)
    right = jnp.take_along_axis(values, jnp.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    losses, hits = jax.nn.logsumexp(values, axis=-1) - right, (right >= jnp.max(values, axis=-1)).astype(jnp.float32)
    if model.head == "span":
        losses, hits = losses.mean(-1), hits.min(-1)
    count = jnp.sum(weights)
    return {"loss": (jnp.sum(weights * losses), count), "accuracy": (jnp.sum(weights * hits), count)}


def _weights(model: Model, batch: dict[str, jax.Array]) -> jax.Array:
    """Returns 1 for each example or token with a label, else 0."""
    if model.head in ("regress", "span"):
        examples_B1 = jnp.max(batch["attention_mask"], axis=1, keepdims=True)
        return (jnp.arange(batch["example_starts"].shape[1]) < examples_B1).astype(jnp.float32)
    return (batch["labels"] != token_rows.IGNORED).astype(jnp.float32)
