"""Computes the cross entropy of the true pieces, and the distance from a teacher's distribution, in one pass.

Letters: N rows  D width  V vocabulary  R rows of a block of the vocabulary
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bert_tpu.model import cross_entropy


class Factors(NamedTuple):
    """The factors of the logits h table^T + bias."""

    h_ND: jax.Array
    table_VD: jax.Array
    bias_V: jax.Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def losses(
    student: Factors, labels_N: jax.Array, teacher: Factors, temperature: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns (losses_N in nats, hits_N, distances_N); float32.

    Losses and hits are those of cross_entropy.tied. A distance is the Kullback-Leibler divergence of the student's
    distribution from the teacher's, both softmax(logits / temperature), times temperature^2. Its gradient is that of
    the cross entropy with soft targets (Hinton et al. 2015, arXiv:1503.02531), but it is 0 if both are equal.
    Only the student has a gradient.

    student, teacher: of one vocabulary; their widths may differ
    labels_N: int, the true pieces
    temperature: 1 or more

    Logits are taken relative to the true piece's. Values are exact while none is above it by more than LARGEST nats.
    The gradient needs two numbers a logit, one of each model, in the compute type; the logits are not stored.
    """
    return _forward(student, labels_N, teacher, temperature)[0]


class Residuals(NamedTuple):
    """Arrays stored for the gradient.

    e: exp of the student's relative logits
    r: exp of the teacher's, over the temperature
    sum_N, soft_sum_N, teacher_sum_N: sums over the vocabulary of e, of exp of the student's over the temperature, of r
    """

    student: Factors
    labels_N: jax.Array
    e_VN: jax.Array
    r_VN: jax.Array
    sum_N: jax.Array
    soft_sum_N: jax.Array
    teacher_sum_N: jax.Array


def _forward(
    student: Factors, labels_N: jax.Array, teacher: Factors, temperature: float
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Residuals]:
    student, teacher = (f._replace(table_VD=f.table_VD.astype(f.h_ND.dtype)) for f in (student, teacher))
    in_blocks = functools.partial(_in_blocks, temperature=temperature)
    return cross_entropy.by_platform(in_blocks, student, labels_N, teacher)


def _label_logits(factors: Factors, labels_N: jax.Array) -> jax.Array:
    label_ND = jnp.take(factors.table_VD, labels_N, axis=0)
    products_ND = factors.h_ND.astype(jnp.float32) * label_ND.astype(jnp.float32)
    return jnp.sum(products_ND, axis=-1) + factors.bias_V[labels_N]


def _blocks(factors: Factors, rows: int) -> tuple[jax.Array, jax.Array]:
    return factors.table_VD.reshape(-1, rows, factors.table_VD.shape[1]), factors.bias_V.reshape(-1, rows)


def _in_blocks(
    student: Factors, labels_N: jax.Array, teacher: Factors, temperature: float, rows: int | None
) -> tuple[tuple[jax.Array, jax.Array, jax.Array], Residuals]:
    """Computes `losses` in blocks of `rows` rows of the tables."""
    V, dtype, T = len(student.bias_V), student.h_ND.dtype, temperature
    rows = cross_entropy.block_rows(V, rows)
    nears_N = _label_logits(student, labels_N), _label_logits(teacher, labels_N)

    def relative(factors: Factors, near_N: jax.Array, block: tuple[jax.Array, jax.Array]) -> jax.Array:
        table_RD, bias_R = block
        z_RN = jnp.einsum("RD,ND->RN", table_RD, factors.h_ND, preferred_element_type=jnp.float32)
        return z_RN + bias_R[:, None] - near_N

    def block(carry: tuple[jax.Array, ...], of_block: tuple) -> tuple[tuple[jax.Array, ...], tuple]:
        sum_N, soft_sum_N, teacher_sum_N, cross_N, label_N, top_N = carry
        student_block, teacher_block, first = of_block
        z_RN = relative(student, nears_N[0], student_block)
        t_RN = relative(teacher, nears_N[1], teacher_block)
        capped_RN = jnp.minimum(z_RN, cross_entropy.LARGEST)
        e_RN, r_RN = jnp.exp(capped_RN), jnp.exp(jnp.minimum(t_RN / T, cross_entropy.LARGEST))
        sum_N += jnp.sum(e_RN, axis=0)
        soft_sum_N += jnp.sum(jnp.exp(capped_RN / T), axis=0)
        teacher_sum_N += jnp.sum(r_RN, axis=0)
        cross_N += jnp.sum(r_RN * (t_RN - z_RN), axis=0) / T
        is_label_RN = jax.lax.broadcasted_iota(jnp.int32, z_RN.shape, 0) == labels_N - first
        label_N += jnp.sum(jnp.where(is_label_RN, z_RN, 0.0), axis=0)
        top_N = jnp.maximum(top_N, jnp.max(z_RN, axis=0))
        stored = e_RN.astype(dtype), r_RN.astype(dtype)
        if rows < V:
            stored = cross_entropy.as_bits(stored[0]), cross_entropy.as_bits(stored[1])
        return (sum_N, soft_sum_N, teacher_sum_N, cross_N, label_N, top_N), stored

    zero_N = jnp.zeros(labels_N.shape, jnp.float32)
    blocks = _blocks(student, rows), _blocks(teacher, rows), jnp.arange(0, V, rows)
    sums, stored = jax.lax.scan(block, (*[zero_N] * 5, zero_N - jnp.inf), blocks, unroll=rows == V)
    e_VN, r_VN = (cross_entropy.from_bits(x.reshape(V, -1), dtype) for x in stored)
    sum_N, soft_sum_N, teacher_sum_N, cross_N, label_N, top_N = sums
    distances_N = T**2 * (cross_N / teacher_sum_N + jnp.log(soft_sum_N) - jnp.log(teacher_sum_N))
    residuals = Residuals(student, labels_N, e_VN, r_VN, sum_N, soft_sum_N, teacher_sum_N)
    return (jnp.log(sum_N) - label_N, (label_N >= top_N).astype(jnp.float32), distances_N), residuals


def _backward(
    temperature: float, residuals: Residuals, gradients: tuple[jax.Array, jax.Array, jax.Array]
) -> tuple[Factors, None, None]:
    in_blocks = functools.partial(_gradient_in_blocks, temperature=temperature)
    return cross_entropy.by_platform(in_blocks, residuals, gradients[0], gradients[2]), None, None


def _gradient_in_blocks(
    residuals: Residuals, g_N: jax.Array, soft_g_N: jax.Array, temperature: float, rows: int | None
) -> Factors:
    """Returns the student's gradient, for those of the losses and the distances, in blocks of `rows` rows."""
    student, T = residuals.student, temperature
    h_ND, table_VD, _ = student
    (V, D), dtype = table_VD.shape, h_ND.dtype
    rows = cross_entropy.block_rows(V, rows)
    scale_N, soft_scale_N = g_N / residuals.sum_N, T * soft_g_N / residuals.soft_sum_N
    teacher_scale_N = T * soft_g_N / residuals.teacher_sum_N
    one_N = jnp.ones(len(h_ND), jnp.float32)

    def block(dh_ND: jax.Array, of_block: tuple) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        (table_RD, bias_R), e_RN, r_RN, first = of_block
        e_RN, r_RN = e_RN.astype(jnp.float32), r_RN.astype(jnp.float32)
        # exp underflows 87 nats below the true piece; its root would then be 0 instead of small.
        soft_RN = e_RN if T == 1 else jnp.exp(jnp.log(jnp.maximum(e_RN, jnp.finfo(jnp.float32).tiny)) / T)
        soft_RN = jnp.where(bias_R[:, None] > cross_entropy.FILL / 2, soft_RN, 0.0)  # the added rows have none
        is_label_RN = jax.lax.broadcasted_iota(jnp.int32, e_RN.shape, 0) == residuals.labels_N - first
        dz_RN = e_RN * scale_N + soft_RN * soft_scale_N - r_RN * teacher_scale_N - jnp.where(is_label_RN, g_N, 0.0)
        dz_RN = dz_RN.astype(dtype)
        dh_ND += jnp.einsum("RN,RD->ND", dz_RN, table_RD, preferred_element_type=jnp.float32)
        dtable_RD = jnp.einsum("RN,ND->RD", dz_RN, h_ND, preferred_element_type=jnp.float32)
        return dh_ND, (dtable_RD, cross_entropy.times_vector(dz_RN, one_N))

    stored = (x.reshape(V // rows, rows, -1) for x in (residuals.e_VN, residuals.r_VN))
    arrays = _blocks(student, rows), *stored
    dh_ND, (dtable_VD, dbias_V) = jax.lax.scan(
        block, jnp.zeros(h_ND.shape, jnp.float32), (*arrays, jnp.arange(0, V, rows)), unroll=rows == V
    )
    return Factors(dh_ND.astype(dtype), dtable_VD.reshape(V, D), dbias_V.reshape(V))


losses.defvjp(_forward, _backward)
