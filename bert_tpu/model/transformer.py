"""The BERT encoder with its pretraining heads (Devlin et al. 2019, arXiv:1810.04805).

Letters in names are dimensions:
  B batch  L tokens  T tokens attended to  M masked  D width  H heads  K head width
  E all heads' width  F feed-forward  V vocabulary  S segment types  C classes

Parameters are float32; products run in the compute type; softmax, norm statistics and logits are float32.
"""

import functools
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from bert_tpu.model import activation, attention, cross_entropy, dropout, embedding, matmul

# Cut at two sigma, as TF1 does; jitted, since Flax asks it for a shape whenever a parameter is read.
INIT = jax.jit(nn.initializers.truncated_normal(stddev=0.02, lower=-2.0, upper=2.0), static_argnums=(1, 2))


class Encoded(NamedTuple):
    """What the encoder says: a vector for each token and for each example; and the table it looked the words up in."""

    layers: tuple[jax.Array, ...]  # [B, L, D] each: of the embeddings, then of every layer
    tokens_BLD: jax.Array  # of the last
    pooled_BD: jax.Array
    word_VD: jax.Array  # as embedding.look_up passes it on


class Logits(NamedTuple):
    """Scores of the two pretraining heads, float32."""

    mlm_BMV: jax.Array
    nsp_BC: jax.Array


class Losses(NamedTuple):
    """Of the masked places the losses in nats and 1 for a hit, and the NSP head's scores; float32."""

    mlm_BM: jax.Array
    mlm_hits_BM: jax.Array
    nsp: jax.Array  # [B, C], or [B, E, C] of examples that share rows


class Embeddings(nn.Module):
    """Sum of word, position and segment embeddings, normalized."""

    vocab_size: int
    hidden_size: int
    max_positions: int
    type_vocab_size: int
    dropout: float
    layer_norm_eps: float
    dtype: jnp.dtype

    def setup(self):
        """Declares the three tables; `word_VD` is also the MLM head's output matrix."""
        self.word_VD = self.param("word", INIT, (self.vocab_size, self.hidden_size))
        self.position_LD = self.param("position", INIT, (self.max_positions, self.hidden_size))
        self.type_SD = self.param("type", INIT, (self.type_vocab_size, self.hidden_size))
        self.norm = _norm(self.layer_norm_eps, self.dtype)

    def __call__(self, ids_BL, types_BL, positions_BL, seeds):
        """([B, L, D], the word table as look_up passes it on); seeds: [3] or None; positions_BL: None for 0 .. L-1."""
        word_BLD, word_VD = embedding.look_up(self.word_VD, ids_BL)
        # A product with one-hot rows: the gradient of a gather from two rows would be a serial scatter on a TPU.
        type_BLS = jax.nn.one_hot(types_BL, self.type_vocab_size, dtype=self.dtype)
        type_BLD = jnp.einsum("BLS,SD->BLD", type_BLS, self.type_SD.astype(self.dtype))
        position_LD = self.position_LD[: ids_BL.shape[1]].astype(self.dtype)
        if positions_BL is not None:  # also a product, for the same reason
            position_BLL = jax.nn.one_hot(positions_BL, len(position_LD), dtype=self.dtype)
            position_LD = jnp.einsum("BLP,PD->BLD", position_BLL, position_LD)
        x_BLD = self.norm(word_BLD.astype(self.dtype) + type_BLD + position_LD)
        return dropout.drop(x_BLD, seeds, self.dropout), word_VD


class Dense(nn.Module):
    """Product with a kernel and a bias, over the last dimension."""

    width: int
    features: int
    dtype: jnp.dtype

    def setup(self):
        """Declares both."""
        self.kernel = self.param("kernel", INIT, (self.width, self.features))
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def __call__(self, x):
        """[..., D] -> [..., F] in the compute type."""
        kernel_DF, bias_F = self.weights()
        return matmul.dense(x.astype(self.dtype), kernel_DF, bias_F)

    def weights(self, scale=1.0):
        """Kernel [D, F] and bias [F] times `scale`, in the compute type."""
        return ((scale * x).astype(self.dtype) for x in (self.kernel, self.bias))


class Attention(nn.Module):
    """Multi-head self-attention over the unpadded tokens."""

    num_heads: int
    softmax: str
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BLD, x_BTD, mask_B1LT, seeds):
        """[B, L, D] that attend to [B, T, D] -> [B, L, D]; `mask_B1LT` as attention.exact takes it."""
        (B, L, D), T, K = x_BLD.shape, x_BTD.shape[1], x_BLD.shape[2] // self.num_heads

        def heads(name, x_BLD, scale=1.0):
            kernel_DE, bias_E = Dense(D, D, self.dtype, name=name).weights(scale)
            return matmul.to_heads(x_BLD, kernel_DE, bias_E, self.num_heads)

        words = dropout.words(seeds, (B, self.num_heads, L, T))
        q_BHKL, k_BHKT, v_BHKT = heads("query", x_BLD, K**-0.5), heads("key", x_BTD), heads("value", x_BTD)
        o_BHKL = attention.FORMS[self.softmax](q_BHKL, k_BHKT, v_BHKT, mask_B1LT, words, self.dropout)
        kernel_ED, bias_D = Dense(D, D, self.dtype, name="output").weights()
        return matmul.from_heads(o_BHKL, kernel_ED, bias_D)


class Layer(nn.Module):
    """Attention and feed-forward, each with dropout, residual and norm after it (post-norm)."""

    num_heads: int
    intermediate_size: int
    activation: str
    softmax: str
    dropout: float
    attention_dropout: float
    layer_norm_eps: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BTD, mask_B1LT, seeds, places_BL=None):
        """[B, T, D] -> [B, T, D], or [B, L, D] of the tokens at these places alone; `seeds` [3, 3] or None."""
        x_BLD, D = x_BTD, x_BTD.shape[-1]
        if places_BL is not None:
            x_BLD = jnp.take_along_axis(x_BTD, places_BL[..., None], axis=1)
            mask_B1LT = jnp.take_along_axis(mask_B1LT, places_BL[:, None, :, None], axis=2)
        scores, output, feed_forward = (None,) * 3 if seeds is None else seeds
        form = self.softmax if places_BL is None else "exact"  # few queries; "bounded" takes a query for each key
        attend = Attention(self.num_heads, form, self.attention_dropout, self.dtype, name="attention")
        a_BLD = dropout.drop(attend(x_BLD, x_BTD, mask_B1LT, scores), output, self.dropout)
        x_BLD = _norm(self.layer_norm_eps, self.dtype, "attention_norm")(x_BLD + a_BLD)
        f_BLF = activation.FORMS[self.activation](Dense(D, self.intermediate_size, self.dtype, name="up")(x_BLD))
        f_BLD = Dense(self.intermediate_size, D, self.dtype, name="down")(f_BLF)
        return _norm(self.layer_norm_eps, self.dtype, "norm")(x_BLD + dropout.drop(f_BLD, feed_forward, self.dropout))


class Bert(nn.Module):
    """The `model` section of a config, made into an encoder with an MLM and an NSP head.

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
    softmax: str  # of attention.FORMS
    dropout: float
    attention_dropout: float
    layer_norm_eps: float
    dtype: str
    remat: bool

    def setup(self):
        """Declares the layers; `remat` recomputes each layer in the backward pass."""
        dtype = jnp.dtype(self.dtype)
        tables = self.vocab_size, self.hidden_size, self.max_positions, self.type_vocab_size
        self.embeddings = Embeddings(*tables, self.dropout, self.layer_norm_eps, dtype)
        layer = nn.remat(Layer) if self.remat else Layer
        of_layer = self.num_heads, self.intermediate_size, self.activation, self.softmax, self.dropout
        of_layer += self.attention_dropout, self.layer_norm_eps, dtype
        self.layer = [layer(*of_layer) for _ in range(self.num_layers)]
        self.pooler = Dense(self.hidden_size, self.hidden_size, dtype)
        self.mlm = MlmHead(self.vocab_size, self.hidden_size, self.activation, self.layer_norm_eps, dtype)
        self.nsp = Dense(self.hidden_size, 2, jnp.float32)

    def __call__(self, ids_BL, types_BL, mask_BL, places_BM, draw=None) -> Logits:
        """Scores of the masked places and of "B is random"; dropout only where a key is given."""
        encoded = self.encode(ids_BL, types_BL, mask_BL, draw)
        h_BMD = jnp.take_along_axis(encoded.tokens_BLD, places_BM[..., None], axis=1)
        return Logits(self.mlm(h_BMD, encoded.word_VD), self.nsp(encoded.pooled_BD.astype(jnp.float32)))

    def losses(self, ids_BL, types_BL, mask_BL, places_BM, masked_ids_BM, starts_BE=None, draw=None) -> Losses:
        """What training needs, without a matrix of all logits' gradients; `starts_BE` as `encode` takes it."""
        encoded = self.encode(ids_BL, types_BL, mask_BL, draw, starts_BE)
        h_BMD = jnp.take_along_axis(encoded.tokens_BLD, places_BM[..., None], axis=1)
        losses_BM, hits_BM = self.mlm.losses(h_BMD, encoded.word_VD, masked_ids_BM)
        return Losses(losses_BM, hits_BM, self.nsp(encoded.pooled_BD.astype(jnp.float32)))

    def encode(self, ids_BL, types_BL, mask_BL, draw=None, starts_BE=None, places_BE=None) -> Encoded:
        """Every layer's tokens, the last one's, and its tanh-pooled first token, all in the compute type.

        mask_BL: 0 at padding. starts_BE: where each of the examples that share a row begins; then mask_BL numbers them
        from 1, a token attends to its own example alone (padding to nothing), positions count from its start, and each
        is pooled, [B, E, D]. places_BE: the last layer is computed at these places of such rows only, and they are what
        is pooled.
        """
        seeds = [None] * (1 + self.num_layers)
        if draw is not None:
            drawn = jax.random.bits(draw.key, (1 + 3 * self.num_layers, 2), jnp.uint32)
            drawn = jnp.pad(drawn, ((0, 0), (0, 1)), constant_values=draw.first_row.astype(jnp.uint32))
            seeds = [drawn[0], *drawn[1:].reshape(self.num_layers, 3, 3)]
        if starts_BE is None:
            mask_B1LT, positions_BL = mask_BL.astype(bool)[:, None, None], None
        else:
            # Padding, number 0, attends to nothing: as a query it asks for an example that is not there.
            mask_B1LT = jnp.where(mask_BL > 0, mask_BL, -1)[:, None, :, None] == mask_BL[:, None, None]
            starts_BL = jnp.take_along_axis(starts_BE, jnp.maximum(mask_BL - 1, 0), axis=1)
            positions_BL = jnp.arange(starts_BL.shape[1]) - starts_BL
        x_BLD, word_VD = self.embeddings(ids_BL, types_BL, positions_BL, seeds[0])
        layers, places = [x_BLD], [None] * (self.num_layers - 1) + [places_BE]
        for layer, *of_layer in zip(self.layer, seeds[1:], places, strict=True):
            layers.append(layer(layers[-1], mask_B1LT, *of_layer))
        x_BLD = first = layers[-1]
        if places_BE is None:
            first = x_BLD[:, 0] if starts_BE is None else jnp.take_along_axis(x_BLD, starts_BE[..., None], axis=1)
        return Encoded(tuple(layers), x_BLD, jnp.tanh(self.pooler(first)), word_VD)


class MlmHead(nn.Module):
    """Transform of the gathered tokens, then the word embeddings as the output matrix, and a bias."""

    vocab_size: int
    hidden_size: int
    activation: str
    layer_norm_eps: float
    dtype: jnp.dtype

    def setup(self):
        """Declares the transform and the bias of the pieces."""
        self.transform = Dense(self.hidden_size, self.hidden_size, self.dtype)
        self.norm = _norm(self.layer_norm_eps, self.dtype)
        self.bias_V = self.param("bias", nn.initializers.zeros, (self.vocab_size,))

    def __call__(self, h_BMD, word_VD):
        """[B, M, D] -> float32 [B, M, V]."""
        h_ND = self._transformed(h_BMD)
        logits_NV = jnp.einsum("ND,VD->NV", h_ND, word_VD.astype(self.dtype), preferred_element_type=jnp.float32)
        return (logits_NV + self.bias_V).reshape(*h_BMD.shape[:-1], -1)

    def losses(self, h_BMD, word_VD, ids_BM):
        """(losses, hits), float32 [B, M]."""
        found = cross_entropy.tied(self._transformed(h_BMD), word_VD, self.bias_V, ids_BM.reshape(-1))
        return tuple(x.reshape(ids_BM.shape) for x in found)

    def _transformed(self, h_BMD):
        return self.norm(activation.FORMS[self.activation](self.transform(h_BMD))).reshape(-1, h_BMD.shape[-1])


def _norm(eps, dtype, name=None):
    # E[x^2] - E[x]^2 spares a pass, but loses digits, as the comparison with PyTorch shows; of eight-bit inputs none.
    return nn.LayerNorm(epsilon=eps, dtype=dtype, use_fast_variance=dtype == jnp.bfloat16, name=name)


@functools.partial(jax.jit, static_argnums=0)  # a start asks half a dozen times for their shapes, traced once
def init(bert, key):
    """Fresh float32 parameters."""
    return bert.init(key, *[jnp.zeros((1, 1), jnp.int32)] * 4)["params"]
