"""The BERT encoder with its pretraining heads (Devlin et al. 2019, arXiv:1810.04805).

Letters in names are dimensions:
  B batch  L tokens  T tokens attended to  M masked  D width  H heads  K head width
  A all heads' width  E examples of a row  F feed-forward  V vocabulary  S segment types  C classes

Parameters are float32; products run in the compute type; softmax, norm statistics and logits are float32.
"""

import functools
from typing import Any, NamedTuple, Protocol

from flax import linen as nn
import jax
import jax.numpy as jnp

from bert_tpu.model import layers, relations, soft_targets

Params = dict[str, Any]  # nested dictionaries of arrays


class Draw(Protocol):
    """The randomness of some rows of a batch."""

    @property
    def key(self) -> jax.Array:
        """The key of the step."""

    @property
    def first_row(self) -> jax.Array:
        """The number of the first of these rows in the whole batch."""


class Encoded(NamedTuple):
    """The encoder's output: a vector for each token and for each example; and the word table."""

    layers: tuple[jax.Array, ...]  # [B, L, D] each: the embeddings, then the output of every layer
    tokens_BLD: jax.Array  # output of the last layer
    pooled_BD: jax.Array
    word_VD: jax.Array  # from embedding.look_up


class Logits(NamedTuple):
    """Scores of the two pretraining heads, float32."""

    mlm_BMV: jax.Array
    nsp_BC: jax.Array


class Losses(NamedTuple):
    """Losses in nats of the masked places, 1 for a hit and 0 for a miss, and the NSP head's scores; float32.

    teacher_distances_BM: as from soft_targets.losses; None without a teacher
    relation_distances_BL: as from relations.distances; None without a teacher's relations
    """

    mlm_BM: jax.Array
    mlm_hits_BM: jax.Array
    nsp: jax.Array  # [B, C], or [B, E, C] if E examples share a row
    teacher_distances_BM: jax.Array | None = None
    relation_distances_BL: jax.Array | None = None


class TeacherOutputs(NamedTuple):
    """A teacher's outputs for some rows, and the temperature at which both models are compared.

    vectors: of its last layer, to compare relations; None to compare none
    relation_heads: as in relations.distances
    """

    factors: soft_targets.Factors
    temperature: float
    vectors: relations.Vectors | None = None
    relation_heads: int = 0


class Bert(nn.Module):
    """An encoder with an MLM and an NSP head; its fields are the `model` section of a config.

    Parameters: {"embeddings", "layer_0" ..., "pooler", "mlm", "nsp"}, float32. Initial weights are normal with
    deviation 0.02 cut at two sigma, biases 0, norms 1 (modeling.py of google-research/bert).
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int
    type_vocab_size: int
    activation: str
    dropout: float
    attention_dropout: float
    layer_norm_eps: float
    dtype: str
    remat: bool

    def setup(self) -> None:
        """Declares the layers; `remat` recomputes each layer in the backward pass."""
        dtype, eps, D = jnp.dtype(self.dtype), self.layer_norm_eps, self.hidden_size
        self.embeddings = layers.Embeddings(
            self.vocab_size, D, self.max_positions, self.type_vocab_size, self.dropout, eps, dtype
        )
        layer = nn.remat(layers.Layer) if self.remat else layers.Layer
        sizes = self.num_heads, self.intermediate_size, self.activation
        self.layer = [layer(*sizes, self.dropout, self.attention_dropout, eps, dtype) for _ in range(self.num_layers)]
        self.pooler = layers.Dense(D, D, dtype)
        self.mlm = layers.MlmHead(self.vocab_size, D, self.activation, eps, dtype)
        self.nsp = layers.Dense(D, 2, jnp.dtype(jnp.float32))

    def __call__(
        self,
        ids_BL: jax.Array,
        types_BL: jax.Array,
        mask_BL: jax.Array,
        places_BM: jax.Array,
        draw: Draw | None = None,
        starts_BE: jax.Array | None = None,
    ) -> Logits:
        """Returns the scores of the masked places and of "B is random".

        places_BM: the masked places; the other arguments are those of `encode`
        """
        encoded = self.encode(ids_BL, types_BL, mask_BL, draw, starts_BE)
        h_BMD = jnp.take_along_axis(encoded.tokens_BLD, places_BM[..., None], axis=1)
        return Logits(self.mlm(h_BMD, encoded.word_VD), self.nsp(encoded.pooled_BD.astype(jnp.float32)))

    def losses(
        self,
        ids_BL: jax.Array,
        types_BL: jax.Array,
        mask_BL: jax.Array,
        places_BM: jax.Array,
        masked_ids_BM: jax.Array,
        starts_BE: jax.Array | None = None,
        draw: Draw | None = None,
        teacher: TeacherOutputs | None = None,
    ) -> Losses:
        """Returns the outputs that training needs, without a matrix of all logits' gradients.

        places_BM, masked_ids_BM: the masked places and their true ids; the other arguments are those of `encode`
        teacher: of the same vocabulary, or None
        """
        encoded = self.encode(ids_BL, types_BL, mask_BL, draw, starts_BE)
        h_BMD = jnp.take_along_axis(encoded.tokens_BLD, places_BM[..., None], axis=1)
        distances_BM = None
        if teacher is None:
            losses_BM, hits_BM = self.mlm.losses(h_BMD, encoded.word_VD, masked_ids_BM)
        else:
            factors, labels_N = self.mlm.factors(h_BMD, encoded.word_VD), masked_ids_BM.reshape(-1)
            of_places = soft_targets.losses(factors, labels_N, teacher.factors, teacher.temperature)
            losses_BM, hits_BM, distances_BM = (x_N.reshape(masked_ids_BM.shape) for x_N in of_places)
        return Losses(losses_BM, hits_BM, self.nsp(encoded.pooled_BD.astype(jnp.float32)), distances_BM)

    def mlm_factors(
        self,
        ids_BL: jax.Array,
        types_BL: jax.Array,
        mask_BL: jax.Array,
        places_BM: jax.Array,
        starts_BE: jax.Array | None = None,
    ) -> soft_targets.Factors:
        """Returns the factors of the masked places' logits, without dropout. Arguments are those of `losses`."""
        encoded = self.encode(ids_BL, types_BL, mask_BL, None, starts_BE)
        h_BMD = jnp.take_along_axis(encoded.tokens_BLD, places_BM[..., None], axis=1)
        return self.mlm.factors(h_BMD, encoded.word_VD)

    def encode(
        self,
        ids_BL: jax.Array,
        types_BL: jax.Array,
        mask_BL: jax.Array,
        draw: Draw | None = None,
        starts_BE: jax.Array | None = None,
        places_BE: jax.Array | None = None,
    ) -> Encoded:
        """Returns the tokens of every layer and of the last one, and the tanh-pooled first token, in the compute type.

        ids_BL, types_BL: pieces and segments
        mask_BL: 0 at padding; if examples share rows, their numbers from 1
        draw: randomness of dropout; None for no dropout
        starts_BE: where each of the examples that share a row begins. Then a token attends to its own example alone
            (padding to nothing), positions count from the example's start, and each example is pooled, [B, E, D].
        places_BE: if set, the last layer is computed at these places of such rows only, and they are pooled
        """
        seeds: list[jax.Array | None] = [None] * (1 + self.num_layers)
        if draw is not None:
            bits = jax.random.bits(draw.key, (1 + 3 * self.num_layers, 2), jnp.uint32)
            bits = jnp.pad(bits, ((0, 0), (0, 1)), constant_values=draw.first_row.astype(jnp.uint32))
            seeds = [bits[0], *bits[1:].reshape(self.num_layers, 3, 3)]
        mask_B1LT, positions_BL = attention_mask(mask_BL, starts_BE), None
        if starts_BE is not None:
            starts_BL = jnp.take_along_axis(starts_BE, jnp.maximum(mask_BL - 1, 0), axis=1)
            positions_BL = jnp.arange(starts_BL.shape[1]) - starts_BL
        x_BLD, word_VD = self.embeddings(ids_BL, types_BL, positions_BL, seeds[0])
        outputs, places = [x_BLD], [None] * (self.num_layers - 1) + [places_BE]
        for layer, layer_seeds, layer_places in zip(self.layer, seeds[1:], places, strict=True):
            outputs.append(layer(outputs[-1], mask_B1LT, layer_seeds, layer_places))
        x_BLD = first = outputs[-1]
        if places_BE is None:
            first = x_BLD[:, 0] if starts_BE is None else jnp.take_along_axis(x_BLD, starts_BE[..., None], axis=1)
        return Encoded(tuple(outputs), x_BLD, jnp.tanh(self.pooler(first)), word_VD)


def attention_mask(mask_BL: jax.Array, starts_BE: jax.Array | None) -> jax.Array:
    """Returns the mask of attention.attend. Arguments as in Bert.encode."""
    if starts_BE is None:
        return mask_BL.astype(bool)[:, None, None]
    # Padding, number 0, attends to nothing: as a query it has number -1, which no example has.
    return jnp.where(mask_BL > 0, mask_BL, -1)[:, None, :, None] == mask_BL[:, None, None]


@functools.partial(jax.jit, static_argnums=0)  # a start asks for the shapes half a dozen times; it is traced once
def init(bert: Bert, key: jax.Array) -> Params:
    """Returns fresh float32 parameters."""
    return bert.init(key, *[jnp.zeros((1, 1), jnp.int32)] * 4)["params"]
