"""Compares how the tokens of two models relate to one another (MiniLMv2, Wang et al. 2021, arXiv:2012.15828).

A relation is the softmax of the scaled products of all tokens' queries with each other, or of their keys, or of their
values. It has as many numbers for a model of any width.

Letters: B batch  H heads  K head width  L tokens  T tokens compared with  R relation heads
"""

from collections.abc import Mapping
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bert_tpu.model import attention, matmul

SOWN, NAME = "intermediates", "query_key_value"  # where layers.Attention leaves its vectors


class Vectors(NamedTuple):
    """Queries, keys and values of one layer, [B, H, K, L] each, as they are before any scaling."""

    query: jax.Array
    key: jax.Array
    value: jax.Array


def of_last_layer(sown: Mapping[str, Any], num_layers: int) -> Vectors:
    """Returns the vectors of the last layer. sown: the collections that Bert.apply returns if SOWN is mutable"""
    [vectors] = sown[SOWN][f"layer_{num_layers - 1}"]["attention"][NAME]
    return Vectors(*vectors)


def distances(student: Vectors, teacher: Vectors, mask_B1LT: jax.Array, heads: int) -> jax.Array:
    """Returns the Kullback-Leibler divergence of the student's relations from the teacher's, in nats; float32 [B, L].

    It is the mean over the three relations and over the relation heads.

    student, teacher: of equally many tokens; their widths may differ
    mask_B1LT: as in attention.attend. The result at a token that is compared with none is of no use, but finite
    heads: relation heads; both widths are multiples of it
    """
    distance = jax.checkpoint(functools.partial(_distance, heads=heads))  # or six matrices of scores would be stored
    total_BL = sum(distance(x, y, mask_B1LT) for x, y in zip(student, teacher, strict=True))
    return total_BL / len(student)


def _distance(student_BHKL: jax.Array, teacher_BHKL: jax.Array, mask_B1LT: jax.Array, heads: int) -> jax.Array:
    student_BRLT, teacher_BRLT = (_log_relation(x, mask_B1LT, heads) for x in (student_BHKL, teacher_BHKL))
    products_BRLT = jnp.exp(teacher_BRLT) * (teacher_BRLT - student_BRLT)
    return jnp.mean(jnp.sum(jnp.where(mask_B1LT, products_BRLT, 0.0), axis=-1), axis=1)


def _log_relation(x_BHKL: jax.Array, mask_B1LT: jax.Array, heads: int) -> jax.Array:
    """Returns the logarithm of softmax(x x^T / sqrt(width of a relation head)), float32 [B, R, L, T]."""
    B, H, K, L = x_BHKL.shape
    x_BRKL = x_BHKL.reshape(B, heads, H * K // heads, L)
    s_BRLT = matmul.einsum("BRKL,BRKT->BRLT", x_BRKL, x_BRKL, jnp.float32) * (heads / (H * K)) ** 0.5
    return jax.nn.log_softmax(jnp.where(mask_B1LT, s_BRLT, attention.MASKED_SCORE), axis=-1)
