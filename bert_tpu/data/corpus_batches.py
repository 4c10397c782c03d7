"""Prepared corpus -> batches, by tf.data: batch n of a length is a function of (seed, n) and of nothing else.

There is no shuffle buffer and no iterator state: seeking is arithmetic. Each host makes its rows of the global batch
from its HostShare. Within a group of shards each sentence comes once an epoch, in a new order each time (sampler.py).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import itertools
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bert_tpu.core import command, joined
from bert_tpu.data import (
    batch_spec,
    chunks,
    host_share,
    masking,
    nsp_pairs,
    packed_batches,
    packing,
    row_limits,
    sampler,
    tensors,
)

HELDOUT_SEED = 2**31 - 1
HELDOUT_MASK_RATE = 0.15
# TensorFlow takes 0.2 ms of the calling thread to hand over an array. So batches are handed over in blocks of BLOCK, or
# of fewer if these would have more than BLOCK_BYTES.
BLOCK, BLOCK_BYTES = 8, 1 << 24

Batch = Mapping[str, np.ndarray]  # shapes as in BatchSpec.shapes, but with this host's rows


class ChunkTable(NamedTuple):
    """A share's chunks for one length; group g of the share has chunks bounds[g] .. bounds[g + 1] - 1.

    In each group the chunks of several sentences come first.
    """

    chunks: chunks.Chunks
    bounds: np.ndarray
    sizes: sampler.GroupSizes

    @property
    def epoch_rows(self) -> np.ndarray:
        """Rows that each group has in an epoch, [groups]."""
        return self.sizes.rows


def chunk_table(share: host_share.HostShare, seq_len: int, short_prob: float) -> ChunkTable:
    """Cuts the share's text into chunks that fill rows of `seq_len` tokens, three of them special."""
    table = chunks.cut(share.text, target=seq_len - 3, short_prob=short_prob)
    bounds = np.searchsorted(table.document, share.document_start)
    is_single = table.last - table.first == 1
    group = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    order = np.lexsort((is_single, group))  # a stable sort: otherwise the order of the text
    single = np.bincount(group, is_single, len(bounds) - 1).astype(np.int64)
    return ChunkTable(
        chunks.Chunks(*(x[order] for x in table)), bounds, sampler.GroupSizes(np.diff(bounds) - single, single)
    )


def epoch_table(share: host_share.HostShare, spec: batch_spec.BatchSpec, seq_len: int) -> ChunkTable | packing.RowPlan:
    """Returns the rows of an epoch of this length: a chunk in each, or the packed rows."""
    return _row_plan(share, spec) if spec.is_packed(seq_len) else chunk_table(share, seq_len, spec.short_prob)


def _row_plan(share: host_share.HostShare, spec: batch_spec.BatchSpec) -> packing.RowPlan:
    return packing.plan_rows(
        share.text,
        share.document_start,
        seq_len=spec.seq_lens[-1],
        slots=spec.packed_examples,
        short_prob=spec.short_prob,
    )


def _chunk_batch_function(
    share: host_share.HostShare, table: ChunkTable, spec: batch_spec.BatchSpec, seq_len: int
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns a TensorFlow function n -> this share's rows of the n-th batch; the arguments are batch_function's."""
    text = tensors.of_text(share.text)
    columns = chunks.Chunks(*map(tf.constant, table.chunks))
    continuation = tf.constant([p.startswith("##") for p in share.pieces]) if spec.whole_word else None

    # Epochs of pairs are counted from the first step with pairs.
    order = sampler.EpochOrder(share, spec, seq_len, table.epoch_rows, since=spec.first_nsp_step)
    single_order = sampler.EpochOrder(share, spec, seq_len, table.sizes.chunks)
    first_chunk, candidates = tf.constant(table.bounds[order.group]), share.candidates(order.group)
    pair_start, num_batches = (spec.steps_before(step, seq_len) for step in (spec.first_nsp_step, spec.num_steps))

    def chunk_of(number: tf.Tensor) -> chunks.Chunks:
        return chunks.Chunks(*(tf.gather(column, first_chunk + number) for column in columns))

    def single(n: tf.Tensor, draws: nsp_pairs.Draws) -> nsp_pairs.Pairs:
        number, _, _ = single_order.entries(n)
        return nsp_pairs.single(text, chunk_of(number), draws, max_tokens=seq_len - 3)

    def pair(n: tf.Tensor, draws: nsp_pairs.Draws) -> nsp_pairs.Pairs:
        visit = sampler.chunk_visits(order, table.sizes, n)
        return nsp_pairs.choose(text, chunk_of(visit.chunk), visit, candidates, draws, max_tokens=seq_len - 3)

    @tf.autograph.experimental.do_not_convert
    def batch(n: tf.Tensor) -> dict[str, tf.Tensor]:
        pair_draws, mask_draws = sampler.draws(spec, seq_len, len(share.pieces), n, order.rows)
        if 0 < pair_start < num_batches:
            pairs = tf.cond(n < pair_start, lambda: single(n, pair_draws), lambda: pair(n, pair_draws))
        else:
            pairs = (single if pair_start else pair)(n, pair_draws)
        rows = nsp_pairs.lay_out(text.tokens, pairs, share.special, seq_len=seq_len)
        rate = masking.rate_of(spec, seq_len, n)
        masked = masking.mask(rows, mask_draws, rate=rate, mask_id=share.special.mask, is_continuation=continuation)
        return {
            "input_ids": masked.input_ids,
            "token_type_ids": rows.types,
            "attention_mask": tf.cast(tf.range(seq_len, dtype=tf.int64)[None] < rows.length[:, None], tf.int32),
            "masked_positions": masked.positions,
            "masked_ids": masked.ids,
            "next_sentence_label": nsp_pairs.labels(pairs),
        }

    return batch


def batch_function(
    share: host_share.HostShare, table: ChunkTable | packing.RowPlan, spec: batch_spec.BatchSpec, seq_len: int
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Returns a TensorFlow function n -> this share's rows of the n-th batch, with the names of BatchSpec.shapes.

    Unused prediction slots have position 0 and id 0. next_sentence_label is 1 where B is random and -1 where the row
    is a single segment.

    share: this host's text
    table: the epoch_table of `seq_len`
    spec: settings of the batches
    seq_len: tokens of a row
    """
    if isinstance(table, packing.RowPlan):
        return packed_batches.batch_function(share, table, spec, seq_len)
    return _chunk_batch_function(share, table, spec, seq_len)


def stream(
    share: host_share.HostShare,
    table: ChunkTable | packing.RowPlan,
    spec: batch_spec.BatchSpec,
    seq_len: int,
    first: int,
    last: int,
) -> Iterator[Batch]:
    """Returns an iterator over the batches first .. last - 1; the other arguments are batch_function's."""
    numbers = tf.data.Dataset.range(first, last)
    batch = batch_function(share, table, spec, seq_len)
    layout = joined.layout({name: shape[1:] for name, shape in spec.shapes(seq_len).items()})

    @tf.autograph.experimental.do_not_convert
    def join(n: tf.Tensor) -> tf.Tensor:
        parts = batch(n)
        assert parts.keys() == dict(layout).keys()
        columns = [tf.reshape(parts[name], (-1, math.prod(shape))) for name, shape in layout]
        return tf.concat(columns, axis=1)  # here, and not in the thread that starts the steps

    batches = numbers.map(join, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    rows, columns = batches.element_spec.shape
    batches = batches.batch(max(1, min(BLOCK, BLOCK_BYTES // (4 * rows * columns))))
    # The thread that tunes a stream sleeps twice as long each time, up to a minute. Freeing a stream at its end may
    # wait for that thread: 8 to 22 s of runs that take a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    # These would write the text into the graph, which is another copy of it.
    options.experimental_optimization.apply_default_optimizations = False
    blocks = batches.prefetch(2).with_options(options).as_numpy_iterator()
    return (joined.Joined(array, layout) for block in blocks for array in block)


def train(share: host_share.HostShare, spec: batch_spec.BatchSpec, first_step: int) -> Iterator[tuple[int, Batch]]:
    """Returns an iterator over (sequence length, batch) of the steps first_step .. num_steps - 1.

    Raises UserError if the share has too little text for a batch.
    """
    tables = {seq_len: epoch_table(share, spec, seq_len) for seq_len in spec.used_lens()}
    for seq_len, table in tables.items():
        _check_size(table, share, spec, seq_len)

    def of_stage(stage: batch_spec.BatchSpec) -> Iterator[tuple[int, Batch]]:
        streams = {
            seq_len: stream(share, table, stage, seq_len, numbers.start, numbers.stop)
            for seq_len, table in tables.items()
            if (numbers := stage.numbers(seq_len))
        }
        return ((seq_len, next(streams[seq_len])) for seq_len in map(spec.seq_len, stage.steps))

    # One stage's streams at a time: each has threads and batches of its own.
    return itertools.chain.from_iterable(map(of_stage, spec.stages(first_step)))


def examples_per_row(share: host_share.HostShare, spec: batch_spec.BatchSpec) -> float:
    """Returns the mean number of examples in a packed row of this share's text; 0 if no rows are packed."""
    return _row_plan(share, spec).examples_per_row if spec.packed_rows else 0.0


def heldout(
    share: host_share.HostShare, spec: batch_spec.BatchSpec, num_batches: int
) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
    """Yields the fixed evaluation set, (sequence length, batch): the first `num_batches` of each length.

    It is the same for every seed of a run. All rows are pairs, and HELDOUT_MASK_RATE of their tokens are hidden. So
    runs compare even if their training rows have other rules. With other data.max_predictions the same tokens are
    hidden, but others of them are replaced instead of masked, which is noise.
    """
    spec = spec.without_ramp()._replace(
        seed=HELDOUT_SEED, mask_rate=HELDOUT_MASK_RATE, final_mask_rate=0.0, nsp_share=1.0
    )
    for seq_len in spec.used_lens():
        batch = batch_function(share, epoch_table(share, spec, seq_len), spec, seq_len)
        # Op by op: so few batches take less time than building a graph for them.
        for n in tf.range(num_batches, dtype=tf.int64):
            yield seq_len, {name: array.numpy() for name, array in batch(n).items()}


def short_heldout_warnings(share: host_share.HostShare, spec: batch_spec.BatchSpec, num_batches: int) -> list[str]:
    """Returns a warning for each length whose few rows `heldout` repeats.

    share: this host's part of the held-out text. Each host has a part of this size
    """
    spec = spec.without_ramp()
    hosts = spec.batch_size // len(share.rows)
    rows = {n: int(epoch_table(share, spec, n).epoch_rows.sum()) * hosts for n in spec.used_lens()}
    found = (row_limits.short_heldout_warning(count, n, num_batches * spec.rows(n)) for n, count in rows.items())
    return [sentence for sentence in found if sentence]


def label_counts(batches: Iterable[tuple[int, Batch]]) -> list[list[int]]:
    """Returns [sequence length, examples, examples whose B is random] of each (length, batch), this host's rows."""
    labels = [(seq_len, batch["next_sentence_label"]) for seq_len, batch in batches]
    return [[n, int((label >= 0).sum()), int((label > 0).sum())] for n, label in labels]  # -1: an empty slot


def _check_size(
    table: ChunkTable | packing.RowPlan, share: host_share.HostShare, spec: batch_spec.BatchSpec, seq_len: int
) -> None:
    """Raises UserError if an epoch is smaller than a batch, since a row comes once an epoch."""
    epoch_rows = table.epoch_rows
    if isinstance(table, ChunkTable) and spec.steps_before(spec.first_nsp_step, seq_len):
        epoch_rows = table.sizes.chunks
    least, rows = int(epoch_rows.min()), spec.rows(seq_len) // share.num_groups
    if least < rows:
        key = "data.packed_rows" if spec.is_packed(seq_len) else "batch_size"
        raise command.UserError(
            f"the corpus is too small for one batch: {least * share.num_groups} rows of {seq_len} tokens for "
            f"{key} {spec.rows(seq_len)}; add text or lower {key}"
        )
