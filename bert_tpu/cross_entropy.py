"""Cross entropy over the vocabulary, without a matrix of its gradient.

Letters: N rows  D width  V vocabulary
"""

import jax
import jax.numpy as jnp

LARGEST = 70.0  # nats; exp of it, times the vocabulary, is far from the end of float32


@jax.custom_vjp
def tied(h_ND, table_VD, bias_V, labels_N):
    """(losses_N in nats, hits_N) of the logits h table^T + bias; float32. No gradient flows through the hits.

    Logits are taken relative to the label's, which is known before they are: their product, exp and sum are one pass.
    It is exact for losses below LARGEST nats, beyond which exp is not let. What is kept for the gradient is exp alone;
    the softmax's division comes after the products, on [N, D], and the label's part is added to the rows it concerns.
    """
    return _forward(h_ND, table_VD, bias_V, labels_N)[0]


def _forward(h_ND, table_VD, bias_V, labels_N):
    table_VD = table_VD.astype(h_ND.dtype)
    label_ND = jnp.take(table_VD, labels_N, axis=0)
    near_N = jnp.sum(h_ND.astype(jnp.float32) * label_ND.astype(jnp.float32), axis=-1) + bias_V[labels_N]
    z_NV = jnp.einsum("ND,VD->NV", h_ND, table_VD, preferred_element_type=jnp.float32) + bias_V - near_N[:, None]
    e_NV = jnp.exp(jnp.minimum(z_NV, LARGEST))
    is_label_NV = jax.lax.broadcasted_iota(jnp.int32, z_NV.shape, 1) == labels_N[:, None]
    label_N = jnp.sum(jnp.where(is_label_NV, z_NV, 0.0), axis=-1)
    sum_N = jnp.sum(e_NV, axis=-1)
    hits_N = (label_N >= jnp.max(z_NV, axis=-1)).astype(jnp.float32)
    kept = h_ND, table_VD, label_ND, labels_N, e_NV.astype(h_ND.dtype), sum_N
    return (jnp.log(sum_N) - label_N, hits_N), kept


def _backward(kept, gradients):
    h_ND, table_VD, label_ND, labels_N, e_NV, sum_N = kept
    g_N = gradients[0]
    scale_N = g_N / sum_N
    dh_ND = jnp.einsum("NV,VD->ND", e_NV, table_VD, preferred_element_type=jnp.float32) * scale_N[:, None]
    dh_ND = dh_ND - label_ND * g_N[:, None]
    scaled_ND = h_ND * scale_N[:, None].astype(h_ND.dtype)
    dtable_VD = jnp.einsum("NV,ND->VD", e_NV, scaled_ND, preferred_element_type=jnp.float32)
    dtable_VD = dtable_VD.at[labels_N].add(-h_ND * g_N[:, None])
    # As a product with one column of eight: a reduction takes ten times as long on a TPU.
    scale_NK = jnp.where(jnp.arange(8) == 0, scale_N[:, None], 0.0).astype(h_ND.dtype)
    dbias_V = jnp.einsum("NV,NK->KV", e_NV, scale_NK, preferred_element_type=jnp.float32)[0]
    return dh_ND.astype(h_ND.dtype), dtable_VD, dbias_V.at[labels_N].add(-g_N), None


tied.defvjp(_forward, _backward)
