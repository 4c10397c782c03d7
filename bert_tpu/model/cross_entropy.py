"""Cross entropy over the vocabulary, without a matrix of its gradient.

Letters: N rows  D width  V vocabulary  P a piece of the vocabulary
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

LARGEST = 70.0  # nats; exp of it, times the vocabulary, is far from the end of float32
CPU_PIECE = 2048  # rows of the table whose logits a CPU keeps in its cache


@jax.custom_vjp
def tied(h_ND, table_VD, bias_V, labels_N):
    """(losses_N in nats, hits_N) of the logits h table^T + bias; float32. No gradient flows through the hits.

    Logits are taken relative to the label's, which is known before they are: their product, exp and sum are one pass.
    It is exact for losses below LARGEST nats, beyond which exp is not let. What is kept for the gradient is exp alone;
    the softmax's division comes after the products, on [N, D], and the label's part is added to the rows it concerns.
    """
    return _forward(h_ND, table_VD, bias_V, labels_N)[0]


class Kept(NamedTuple):
    """What the gradient is made of; e is exp of the relative logits, `pull` its product with the table."""

    h_ND: jax.Array
    labels_N: jax.Array
    label_ND: jax.Array
    e_VN: jax.Array
    sum_N: jax.Array
    pull_ND: jax.Array


def _forward(h_ND, table_VD, bias_V, labels_N):
    given = h_ND, table_VD.astype(h_ND.dtype), bias_V, labels_N
    # A TPU takes the whole table at once: there the three products and exp are passes that the compiler fuses. A
    # CPU's passes are separate, and 75 MB of logits would go through memory in each.
    return jax.lax.platform_dependent(
        *given, cpu=functools.partial(_in_pieces, rows=CPU_PIECE), default=functools.partial(_in_pieces, rows=None)
    )


def _in_pieces(h_ND, table_VD, bias_V, labels_N, rows):
    V, D = table_VD.shape
    rows = rows if rows and V % rows == 0 else V
    label_ND = jnp.take(table_VD, labels_N, axis=0)
    near_N = jnp.sum(h_ND.astype(jnp.float32) * label_ND.astype(jnp.float32), axis=-1) + bias_V[labels_N]

    def piece(so_far, of_table):
        sum_N, label_N, top_N, pull_ND = so_far
        table_PD, bias_P, first = of_table
        z_PN = jnp.einsum("PD,ND->PN", table_PD, h_ND, preferred_element_type=jnp.float32) + bias_P[:, None] - near_N
        e_PN = jnp.exp(jnp.minimum(z_PN, LARGEST))
        is_label_PN = jax.lax.broadcasted_iota(jnp.int32, z_PN.shape, 0) == labels_N - first
        label_N += jnp.sum(jnp.where(is_label_PN, z_PN, 0.0), axis=0)
        top_N = jnp.maximum(top_N, jnp.max(z_PN, axis=0))
        sum_N += jnp.sum(e_PN, axis=0)
        e_PN = e_PN.astype(h_ND.dtype)
        pull_ND += jnp.einsum("PN,PD->ND", e_PN, table_PD, preferred_element_type=jnp.float32)
        return (sum_N, label_N, top_N, pull_ND), e_PN

    zero_N = jnp.zeros_like(near_N)
    pieces = table_VD.reshape(-1, rows, D), bias_V.reshape(-1, rows), jnp.arange(0, V, rows)
    start = zero_N, zero_N, zero_N - jnp.inf, jnp.zeros(h_ND.shape, jnp.float32)
    (sum_N, label_N, top_N, pull_ND), e_VN = jax.lax.scan(piece, start, pieces, unroll=rows == V)
    hits_N = (label_N >= top_N).astype(jnp.float32)
    return (jnp.log(sum_N) - label_N, hits_N), Kept(h_ND, labels_N, label_ND, e_VN.reshape(V, -1), sum_N, pull_ND)


def _backward(kept, gradients):
    g_N = gradients[0]
    scale_N = g_N / kept.sum_N
    dh_ND = kept.pull_ND * scale_N[:, None] - kept.label_ND * g_N[:, None]
    h_ND, dtype = kept.h_ND, kept.h_ND.dtype
    scaled_ND = h_ND * scale_N[:, None].astype(dtype)
    dtable_VD = jnp.einsum("VN,ND->VD", kept.e_VN, scaled_ND, preferred_element_type=jnp.float32)
    # The product has the label's row with e = 1, and here 1 - sum is to be left of it: where the model is sure, nearly
    # nothing. So what is subtracted is rounded as the product's rows are; h g would be off by more than what is left.
    dtable_VD = dtable_VD.at[kept.labels_N].add(-scaled_ND.astype(jnp.float32) * kept.sum_N[:, None])
    # As a product with one column of eight: a reduction takes ten times as long on a TPU.
    scale_NK = jnp.where(jnp.arange(8) == 0, scale_N[:, None], 0.0).astype(dtype)
    dbias_V = jnp.einsum("VN,NK->KV", kept.e_VN, scale_NK, preferred_element_type=jnp.float32)[0]
    dbias_V = dbias_V.at[kept.labels_N].add(-scale_NK[:, 0].astype(jnp.float32) * kept.sum_N)  # as above
    return dh_ND.astype(dtype), dtable_VD, dbias_V, None


tied.defvjp(_forward, _backward)
