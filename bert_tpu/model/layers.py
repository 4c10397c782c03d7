"""The layers of the encoder: embeddings, attention, feed-forward, and the MLM head.

Letters in names are dimensions, as in transformer.py.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp

from bert_tpu.model import activation, attention, cross_entropy, dropout, embedding, matmul, relations, soft_targets

# Cut at two sigma, as TF1 does; jitted, since Flax asks it for a shape whenever a parameter is read.
INIT = jax.jit(nn.initializers.truncated_normal(stddev=0.02, lower=-2.0, upper=2.0), static_argnums=(1, 2))


def norm(eps: float, dtype: jnp.dtype, name: str | None = None) -> nn.LayerNorm:
    """Returns a layer norm over the last dimension, computed in `dtype`."""
    # E[x^2] - E[x]^2 saves a pass, but loses digits, as the comparison with PyTorch shows; with bfloat16 inputs none.
    return nn.LayerNorm(epsilon=eps, dtype=dtype, use_fast_variance=dtype == jnp.bfloat16, name=name)


class Embeddings(nn.Module):
    """Sum of word, position and segment embeddings, normalized."""

    vocab_size: int
    hidden_size: int
    max_positions: int
    type_vocab_size: int
    dropout: float
    layer_norm_eps: float
    dtype: jnp.dtype

    def setup(self) -> None:
        """Declares the three tables; `word_VD` is also the MLM head's output matrix."""
        self.word_VD = self.param("word", INIT, (self.vocab_size, self.hidden_size))
        self.position_LD = self.param("position", INIT, (self.max_positions, self.hidden_size))
        self.type_SD = self.param("type", INIT, (self.type_vocab_size, self.hidden_size))
        self.norm = norm(self.layer_norm_eps, self.dtype)

    def __call__(
        self, ids_BL: jax.Array, types_BL: jax.Array, positions_BL: jax.Array | None, seeds: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """Returns (the embeddings [B, L, D], the word table from embedding.look_up).

        ids_BL, types_BL: pieces and segments
        positions_BL: None for 0 .. L - 1
        seeds: uint32 [3] of dropout.bits, or None for no dropout
        """
        word_BLD, word_VD = embedding.look_up(self.word_VD, ids_BL)
        # A product with one-hot rows: the gradient of a gather from two rows would be a serial scatter on a TPU.
        type_BLS = jax.nn.one_hot(types_BL, self.type_vocab_size, dtype=self.dtype)
        type_BLD = jnp.einsum("BLS,SD->BLD", type_BLS, self.type_SD.astype(self.dtype))
        position = self.position_LD[: ids_BL.shape[1]].astype(self.dtype)  # [L, D]
        if positions_BL is not None:  # also a product, for the same reason; P a position of the table
            is_position_BLP = jax.nn.one_hot(positions_BL, len(position), dtype=self.dtype)
            position = jnp.einsum("BLP,PD->BLD", is_position_BLP, position)
        x_BLD = self.norm(word_BLD.astype(self.dtype) + type_BLD + position)
        return dropout.drop(x_BLD, seeds, self.dropout), word_VD


class Dense(nn.Module):
    """A product with a kernel over the last dimension, plus a bias."""

    width: int
    features: int
    dtype: jnp.dtype

    def setup(self) -> None:
        """Declares kernel and bias."""
        self.kernel = self.param("kernel", INIT, (self.width, self.features))
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def __call__(self, x: jax.Array) -> jax.Array:
        """Returns [..., F] for x [..., D], in the compute type."""
        kernel_DF, bias_F = self.weights()
        return matmul.dense(x.astype(self.dtype), kernel_DF, bias_F)

    def weights(self) -> tuple[jax.Array, jax.Array]:
        """Returns kernel [D, F] and bias [F] in the compute type."""
        return self.kernel.astype(self.dtype), self.bias.astype(self.dtype)


class Attention(nn.Module):
    """Multi-head self-attention over the unpadded tokens."""

    num_heads: int
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x_BLD: jax.Array, x_BTD: jax.Array, mask_B1LT: jax.Array, seeds: jax.Array | None) -> jax.Array:
        """Returns the output [B, L, D].

        x_BLD: the tokens that attend
        x_BTD: the tokens attended to
        mask_B1LT: the mask of attention.attend
        seeds: uint32 [3] of dropout.bits, or None for no dropout
        """
        (B, L, D), T, K = x_BLD.shape, x_BTD.shape[1], x_BLD.shape[2] // self.num_heads

        def heads(name: str, x_BLD: jax.Array) -> jax.Array:
            kernel_DA, bias_A = Dense(D, D, self.dtype, name=name).weights()
            return matmul.to_heads(x_BLD, kernel_DA, bias_A, self.num_heads)

        bits = dropout.bits(seeds, (B, self.num_heads, L, T))
        q_BHKL, k_BHKT, v_BHKT = heads("query", x_BLD), heads("key", x_BTD), heads("value", x_BTD)
        self.sow(relations.SOWN, relations.NAME, (q_BHKL, k_BHKT, v_BHKT))  # kept only where it is asked for
        q_BHKL *= jnp.asarray(K**-0.5, self.dtype)  # a scaled kernel would not be gathered during products
        o_BHKL = attention.attend(q_BHKL, k_BHKT, v_BHKT, mask_B1LT, bits, self.dropout)
        kernel_AD, bias_D = Dense(D, D, self.dtype, name="output").weights()
        return matmul.from_heads(o_BHKL, kernel_AD, bias_D)


class Layer(nn.Module):
    """Attention and feed-forward, each with dropout, residual and norm after it (post-norm)."""

    num_heads: int
    intermediate_size: int
    activation: str
    dropout: float
    attention_dropout: float
    layer_norm_eps: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        mask_B1LT: jax.Array,
        seeds: jax.Array | None,
        places_BL: jax.Array | None = None,
    ) -> jax.Array:
        """Returns the output for all tokens, [B, T, D], or for those at `places_BL` alone, [B, L, D].

        x_BTD: the tokens
        mask_B1LT: the mask of attention.attend, for all tokens
        seeds: uint32 [3, 3], three dropout sites of dropout.bits, or None for no dropout
        places_BL: places of tokens, or None
        """
        x_BLD, D = x_BTD, x_BTD.shape[-1]
        if places_BL is not None:
            x_BLD = jnp.take_along_axis(x_BTD, places_BL[..., None], axis=1)
            mask_B1LT = jnp.take_along_axis(mask_B1LT, places_BL[:, None, :, None], axis=2)
        scores, output, feed_forward = (None,) * 3 if seeds is None else seeds
        attend = Attention(self.num_heads, self.attention_dropout, self.dtype, name="attention")
        a_BLD = dropout.drop(attend(x_BLD, x_BTD, mask_B1LT, scores), output, self.dropout)
        x_BLD = norm(self.layer_norm_eps, self.dtype, "attention_norm")(x_BLD + a_BLD)
        f_BLF = activation.FORMS[self.activation](Dense(D, self.intermediate_size, self.dtype, name="up")(x_BLD))
        f_BLD = Dense(self.intermediate_size, D, self.dtype, name="down")(f_BLF)
        return norm(self.layer_norm_eps, self.dtype, "norm")(x_BLD + dropout.drop(f_BLD, feed_forward, self.dropout))


class MlmHead(nn.Module):
    """A transform of the gathered tokens, then a product with the word embeddings, plus a bias."""

    vocab_size: int
    hidden_size: int
    activation: str
    layer_norm_eps: float
    dtype: jnp.dtype

    def setup(self) -> None:
        """Declares the transform and the bias of the pieces."""
        self.transform = Dense(self.hidden_size, self.hidden_size, self.dtype)
        self.norm = norm(self.layer_norm_eps, self.dtype)
        self.bias_V = self.param("bias", nn.initializers.zeros, (self.vocab_size,))

    def __call__(self, h_BMD: jax.Array, word_VD: jax.Array) -> jax.Array:
        """Returns the logits, float32 [B, M, V]."""
        h_ND = self._transform(h_BMD)
        logits_NV = jnp.einsum("ND,VD->NV", h_ND, word_VD.astype(self.dtype), preferred_element_type=jnp.float32)
        return (logits_NV + self.bias_V).reshape(*h_BMD.shape[:-1], -1)

    def losses(self, h_BMD: jax.Array, word_VD: jax.Array, ids_BM: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns (losses in nats, 1 for a hit and 0 for a miss), float32 [B, M], of the true pieces `ids_BM`."""
        losses_N, hits_N = cross_entropy.tied(self._transform(h_BMD), word_VD, self.bias_V, ids_BM.reshape(-1))
        return losses_N.reshape(ids_BM.shape), hits_N.reshape(ids_BM.shape)

    def factors(self, h_BMD: jax.Array, word_VD: jax.Array) -> soft_targets.Factors:
        """Returns the factors of the logits of B x M places."""
        return soft_targets.Factors(self._transform(h_BMD), word_VD, self.bias_V)

    def _transform(self, h_BMD: jax.Array) -> jax.Array:
        """Returns the transformed tokens, [N, D]."""
        return self.norm(activation.FORMS[self.activation](self.transform(h_BMD))).reshape(-1, h_BMD.shape[-1])
