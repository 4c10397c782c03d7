"""The heads of fine-tuning: what each says of encoded rows, and what it is trained to say (Devlin et al. 2019, 4).

Letters: B batch  L tokens  E examples of a row  D width  C classes
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from bert_tpu.data import token_rows
from bert_tpu.model import dropout, param_layout, transformer
from bert_tpu.training import jobs

OBJECTIVES = ("loss",)
OF_TOKENS = ("span", "tag")  # heads that speak of tokens, the others of examples


class Model(NamedTuple):
    """An encoder with a head of one of the kinds that tasks.task.Task names."""

    bert: transformer.Bert
    head: str
    classes: int  # 1 for "regress", 2 for "span"


def init(tuned: Model, key):
    """Fresh parameters, float32: {"embeddings", "layer_0" ..., "pooler", "head"}, as Bert.init draws its own."""
    fresh = transformer.init(tuned.bert, key)
    encoder = {name: tree for name, tree in fresh.items() if name not in ("mlm", "nsp")}
    return encoder | {"head": init_head(tuned, key)}


def init_head(tuned: Model, key):
    """A fresh head: kernel [D, C] and bias [C]."""
    kernel_DC = transformer.INIT(jax.random.fold_in(key, 1), (tuned.bert.hidden_size, tuned.classes))
    return {"kernel": kernel_DC, "bias": jnp.zeros(tuned.classes)}


def outputs(tuned: Model, params, batch, draw=None):
    """Float32 scores of examples, from the pooled first token; of tokens for "span" and "tag", [B, L, C].

    Of examples that share rows [B, E, C], of rows [B, C] where the batch has no `example_starts`. Dropout where there
    is a draw. params: as layout.pack has them.
    """
    bert = tuned.bert.clone(vocab_size=param_layout.padded_size(tuned.bert.vocab_size))
    encoder = {name: tree for name, tree in params.items() if name != "head"}
    inputs = (batch[name] for name in ("input_ids", "token_type_ids", "attention_mask"))
    starts_BE, of_tokens = batch.get("example_starts"), tuned.head in OF_TOKENS
    places_BE = None if of_tokens else starts_BE  # pooling asks for no more of the last layer
    encoded = bert.apply(
        {"params": param_layout.split_layers(encoder)}, *inputs, draw, starts_BE, places_BE, method="encode"
    )  # fmt: skip
    x = encoded.tokens_BLD if of_tokens else encoded.pooled_BD
    if draw is not None and tuned.head != "span":  # whose authors drop nothing here
        seeds = jax.random.bits(jax.random.fold_in(draw.key, 1), (2,), jnp.uint32)
        seeds = jnp.append(seeds, draw.first_row.astype(jnp.uint32))
        x = dropout.drop(x, seeds, tuned.bert.dropout)
    head = params["head"]
    return jnp.dot(x.astype(jnp.float32), head["kernel"], precision="highest") + head["bias"]


def counts(tuned: Model, batch):
    """What the loss is divided by: examples, or the tokens that have a label. At least 1, for a batch without any."""
    return {"loss": jnp.maximum(jnp.sum(_weights(tuned, batch)), 1.0)}


def loss(tuned: Model, params, batch, draw) -> jobs.Sums:
    """Cross entropy in nats, of a span the mean of its two ends'; of "regress" the squared error; and the hits.

    batch: as feed.lay makes it.
    """
    said, labels, weights = outputs(tuned, params, batch, draw), batch["labels"], _weights(tuned, batch)
    if tuned.head == "regress":
        errors_BE = said[..., 0] - jax.lax.bitcast_convert_type(labels, jnp.float32)
        # Where there is no example, the label's bits are no number, and 0 times that is none either.
        squares_BE = jnp.where(weights > 0, errors_BE, 0.0) ** 2
        return {"loss": (jnp.sum(squares_BE), jnp.sum(weights))}
    if tuned.head == "span":  # a class for each token of the example
        own_BEL = batch["attention_mask"][:, None] == 1 + jnp.arange(labels.shape[1])[:, None]
        said = jnp.where(own_BEL[:, :, None], said.swapaxes(-1, -2)[:, None], -1e9)
    right = jnp.take_along_axis(said, jnp.maximum(labels, 0)[..., None], axis=-1)[..., 0]
    losses, hits = jax.nn.logsumexp(said, axis=-1) - right, (right >= jnp.max(said, axis=-1)).astype(jnp.float32)
    if tuned.head == "span":
        losses, hits = losses.mean(-1), hits.min(-1)
    count = jnp.sum(weights)
    return {"loss": (jnp.sum(weights * losses), count), "accuracy": (jnp.sum(weights * hits), count)}


def _weights(tuned, batch):
    """1 where there is something to learn: an example, or a token, with a label."""
    if tuned.head in ("regress", "span"):
        examples_B1 = jnp.max(batch["attention_mask"], axis=1, keepdims=True)
        return (jnp.arange(batch["example_starts"].shape[1]) < examples_B1).astype(jnp.float32)
    return (batch["labels"] != token_rows.IGNORED).astype(jnp.float32)
