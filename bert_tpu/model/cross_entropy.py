"""Computes the cross entropy over the vocabulary without a matrix of its gradient.

Letters: N rows  D width  V vocabulary  R rows of a block of the vocabulary
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bert_tpu.model import matmul

LARGEST = 70.0  # nats; exp of it, times the vocabulary, is far below the largest float32
FILL = -1e9  # bias of a row that is no piece (param_layout.py): exp(it - anything) is exactly 0
CPU_BLOCK = 2048  # rows of the table whose logits fit in a CPU's cache


@jax.custom_vjp
def tied(h_ND: jax.Array, table_VD: jax.Array, bias_V: jax.Array, labels_N: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (losses_N in nats, hits_N) of the logits h table^T + bias; float32. Hits have no gradient.

    Logits are taken relative to the label's, which is known before the others: their product, exp and sum are one
    pass. Losses are exact below LARGEST nats, where exp is cut off. Only exp is stored for the gradient. The softmax's
    division comes after the products, on [N, D], and the label's part is added to the labels' rows.

    h_ND: vectors to classify
    table_VD: the word embeddings
    bias_V: of each piece
    labels_N: int, the true pieces
    """
    return _forward(h_ND, table_VD, bias_V, labels_N)[0]


class Residuals(NamedTuple):
    """Arrays stored for the gradient; e is exp of the relative logits, `pull` its product with the table."""

    h_ND: jax.Array
    labels_N: jax.Array
    label_ND: jax.Array
    e_VN: jax.Array
    sum_N: jax.Array
    pull_ND: jax.Array


def _forward(
    h_ND: jax.Array, table_VD: jax.Array, bias_V: jax.Array, labels_N: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], Residuals]:
    return by_platform(_in_blocks, h_ND, table_VD.astype(h_ND.dtype), bias_V, labels_N)


def by_platform(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls `function` with the rows of the table that it takes at once as `rows`: on a CPU a block, else None, all.

    A TPU's compiler fuses the products and exp of the whole table into passes. A CPU's passes are separate, and 75 MB
    of logits would go through memory in each.
    """
    cpu, default = (functools.partial(function, rows=rows) for rows in (CPU_BLOCK, None))
    return jax.lax.platform_dependent(*arguments, cpu=cpu, default=default)


def times_vector(x_VN: jax.Array, vector_N: jax.Array) -> jax.Array:
    """Returns x vector, float32 [V]. The vector is rounded to the type of x.

    It is one of eight columns of a product. A TPU takes ten times as long for a reduction. A CPU takes twenty times as
    long if the product has the columns first, and up to ten times as long for one column of bfloat16.
    """

    def product(x_VN: jax.Array, vector_NK: jax.Array, spec: str) -> jax.Array:
        return jnp.einsum(spec, x_VN, vector_NK, preferred_element_type=jnp.float32)

    vector_NK = jnp.where(jnp.arange(8) == 0, vector_N[:, None], 0.0).astype(x_VN.dtype)
    return jax.lax.platform_dependent(
        x_VN, vector_NK,
        cpu=lambda x, vector: product(x, vector, "VN,NK->VK")[:, 0],
        default=lambda x, vector: product(x, vector, "VN,NK->KV")[0],
    )  # fmt: skip


def as_bits(x: jax.Array) -> jax.Array:
    """Returns bfloat16 as integers of the same bits, for the outputs of a scan; other types as they are.

    XLA:CPU converts a whole stack of bfloat16 to float32 and back whenever a scan writes one block of it.
    """
    return jax.lax.bitcast_convert_type(x, jnp.uint16) if x.dtype == jnp.bfloat16 else x


def from_bits(bits: jax.Array, dtype: jax.typing.DTypeLike) -> jax.Array:
    """Returns the array of type `dtype` that `as_bits` was given."""
    return jax.lax.bitcast_convert_type(bits, dtype) if bits.dtype == jnp.uint16 else bits


def block_rows(V: int, rows: int | None) -> int:
    """Returns the rows of a block of a table of V: all if `rows` is None or does not divide V."""
    return rows if rows and V % rows == 0 else V


def _in_blocks(
    h_ND: jax.Array, table_VD: jax.Array, bias_V: jax.Array, labels_N: jax.Array, rows: int | None
) -> tuple[tuple[jax.Array, jax.Array], Residuals]:
    """Computes `tied` in blocks of `rows` rows of the table; all rows at once if that is None or does not divide V."""
    V, D = table_VD.shape
    rows = block_rows(V, rows)
    label_ND = jnp.take(table_VD, labels_N, axis=0)
    near_N = jnp.sum(h_ND.astype(jnp.float32) * label_ND.astype(jnp.float32), axis=-1) + bias_V[labels_N]

    def block(
        carry: tuple[jax.Array, jax.Array, jax.Array, jax.Array], table_block: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]:
        sum_N, label_N, top_N, pull_ND = carry
        table_RD, bias_R, first = table_block
        z_RN = jnp.einsum("RD,ND->RN", table_RD, h_ND, preferred_element_type=jnp.float32) + bias_R[:, None] - near_N
        e_RN = jnp.exp(jnp.minimum(z_RN, LARGEST))
        is_label_RN = jax.lax.broadcasted_iota(jnp.int32, z_RN.shape, 0) == labels_N - first
        label_N += jnp.sum(jnp.where(is_label_RN, z_RN, 0.0), axis=0)
        top_N = jnp.maximum(top_N, jnp.max(z_RN, axis=0))
        sum_N += jnp.sum(e_RN, axis=0)
        e_RN = e_RN.astype(h_ND.dtype)
        pull_ND += matmul.over_rows(e_RN, table_RD)
        return (sum_N, label_N, top_N, pull_ND), as_bits(e_RN) if rows < V else e_RN

    zero_N = jnp.zeros_like(near_N)
    blocks = table_VD.reshape(-1, rows, D), bias_V.reshape(-1, rows), jnp.arange(0, V, rows)
    start = zero_N, zero_N, zero_N - jnp.inf, jnp.zeros(h_ND.shape, jnp.float32)
    (sum_N, label_N, top_N, pull_ND), e_VN = jax.lax.scan(block, start, blocks, unroll=rows == V)
    hits_N = (label_N >= top_N).astype(jnp.float32)
    e_VN = from_bits(e_VN.reshape(V, -1), h_ND.dtype)
    return (jnp.log(sum_N) - label_N, hits_N), Residuals(h_ND, labels_N, label_ND, e_VN, sum_N, pull_ND)


def _backward(
    residuals: Residuals, gradients: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    g_N = gradients[0]
    scale_N = g_N / residuals.sum_N
    dh_ND = residuals.pull_ND * scale_N[:, None] - residuals.label_ND * g_N[:, None]
    h_ND, dtype = residuals.h_ND, residuals.h_ND.dtype
    scaled_ND = h_ND * scale_N[:, None].astype(dtype)
    dtable_VD = jnp.einsum("VN,ND->VD", residuals.e_VN, scaled_ND, preferred_element_type=jnp.float32)
    # The product has the label's row with e = 1, and 1 - sum must be left of it: nearly nothing if the model is sure.
    # So the subtracted row is rounded as the product's rows are; h g would be off by more than the remainder.
    dtable_VD = dtable_VD.at[residuals.labels_N].add(-scaled_ND.astype(jnp.float32) * residuals.sum_N[:, None])
    dbias_V = times_vector(residuals.e_VN, scale_N)
    rounded_N = scale_N.astype(dtype).astype(jnp.float32)
    dbias_V = dbias_V.at[residuals.labels_N].add(-rounded_N * residuals.sum_N)  # as above
    return dh_ND.astype(dtype), dtable_VD, dbias_V, None


tied.defvjp(_forward, _backward)
