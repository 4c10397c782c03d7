"""Makes packed rows with TensorFlow: several examples a row, each with segments, masks and a label of its own.

Letters: B batch  L tokens  M prediction slots  E examples a row.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bert_tpu.data import batch_spec, chunks, host_share, masking, nsp_pairs, packing, sampler, tensors
from bert_tpu.tokenizer import vocab


def batch_function(
    share: host_share.HostShare, plan: packing.RowPlan, spec: batch_spec.BatchSpec, seq_len: int
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns a TensorFlow function n -> this share's rows of the n-th batch, with the names of BatchSpec.shapes.

    attention_mask numbers a row's examples from 1. example_starts are their places, 0 in an empty slot.
    next_sentence_label is -1 in an empty slot and for a single segment.

    share: this host's text
    plan: the packed rows of an epoch
    spec: settings of the batches
    seq_len: L
    """
    text = tensors.of_text(share.text)
    columns = chunks.Chunks(*map(tf.constant, plan.chunks))
    budgets, packed_rows = tf.constant(plan.budgets), tf.constant(plan.rows)
    order = sampler.EpochOrder(share, spec, seq_len, plan.epoch_rows)
    E, most = spec.packed_examples, spec.max_predictions[spec.seq_lens.index(seq_len)]
    group = np.repeat(order.group, E)
    first_row, first_chunk = tf.constant(plan.bounds[order.group]), tf.constant(plan.chunk_bounds[group])
    candidates = share.candidates(group)
    pair_start = spec.steps_before(spec.first_nsp_step, seq_len)

    @tf.autograph.experimental.do_not_convert
    def batch(n: tf.Tensor) -> dict[str, tf.Tensor]:
        entry, epoch, key = order.entries(n)
        number_BE = tf.cast(tf.gather(packed_rows, first_row + entry), tf.int64)
        is_used_BE = number_BE >= 0
        # An empty slot takes some chunk of the group, which is then left out.
        number = tf.maximum(tf.reshape(number_BE, [-1]), first_chunk)
        chunk = chunks.Chunks(*(tf.gather(column, number) for column in columns))
        visit = sampler.example_visits(
            number - first_chunk, chunk.last - chunk.first == 1, tf.repeat(epoch, E), tf.repeat(key, E)
        )
        pair_draws, mask_draws = sampler.draws(spec, seq_len, len(share.pieces), n, order.rows)
        budget = tf.gather(budgets, number)
        extra = sampler.extra_document_draws(spec, seq_len, n, order.rows)
        chunk = chunk._replace(target=budget)  # a random B takes the room of the text that it replaces
        pair = nsp_pairs.choose(text, chunk, visit, candidates, pair_draws, max_tokens=budget, extra_documents=extra)
        if pair_start:
            single = nsp_pairs.single(text, chunk, pair_draws, max_tokens=budget)
            pair = nsp_pairs.Pairs(*(tf.where(n < pair_start, x, y) for x, y in zip(single, pair, strict=True)))
        pair = nsp_pairs.Pairs(*(tf.reshape(x, [-1, E]) for x in pair))

        rows = _lay_out(text.tokens, pair, is_used_BE, share.special, seq_len)
        rate = masking.rate_of(spec, seq_len, n)
        chosen = masking.choose_by_example(rows.examples, rows.is_text_BL, mask_draws, rate=rate, most=most)
        masked = masking.hide(rows.ids_BL, chosen, mask_draws, share.special.mask)
        return {
            "input_ids": masked.input_ids,
            "token_type_ids": rows.types_BL,
            "attention_mask": tf.where(rows.number_BL < E, rows.number_BL + 1, 0),
            "masked_positions": masked.positions,
            "masked_ids": masked.ids,
            "example_starts": tf.cast(tf.where(is_used_BE, rows.starts_BE, 0), tf.int32),
            "next_sentence_label": tf.where(is_used_BE, nsp_pairs.labels(pair), -1),
        }

    return batch


class _Rows(NamedTuple):
    """Packed rows before masking."""

    ids_BL: tf.Tensor
    types_BL: tf.Tensor
    is_text_BL: tf.Tensor
    number_BL: tf.Tensor  # of the example at each place, from 0; E after the last
    starts_BE: tf.Tensor
    examples: masking.Examples


def _lay_out(
    tokens: tf.Tensor, pair: nsp_pairs.Pairs, is_used_BE: tf.Tensor, special: vocab.Ids, seq_len: int
) -> _Rows:
    """Lays the pairs of each row out one after the other.

    tokens: uint16 [N], the corpus
    pair: the spans of each slot, [B, E]
    is_used_BE: False in an empty slot
    special: ids of the special tokens
    seq_len: L
    """
    B, E = is_used_BE.shape
    text_BE = tf.where(is_used_BE, pair.a_length + pair.b_length, 0)
    length_BE = tf.where(is_used_BE, nsp_pairs.lengths(pair), 0)
    ends_BE = tf.cumsum(length_BE, axis=1)
    starts_BE = ends_BE - length_BE
    place_BL = tf.broadcast_to(tf.range(seq_len, dtype=tf.int64)[None], [B, seq_len])
    number_BL = tf.searchsorted(ends_BE, place_BL, side="right")
    slot_BL = tf.minimum(number_BL, E - 1)
    local_BL = tf.where(number_BL < E, place_BL - tf.gather(starts_BE, slot_BL, batch_dims=1), seq_len)
    pair_BL = nsp_pairs.Pairs(*(tf.gather(x, slot_BL, batch_dims=1) for x in pair))
    ids_BL, types_BL, is_text_BL = nsp_pairs.place_tokens(tokens, local_BL, pair_BL, special)
    return _Rows(ids_BL, types_BL, is_text_BL, number_BL, starts_BE, masking.Examples(slot_BL, text_BE, length_BE))
