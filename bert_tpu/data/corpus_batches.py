"""Prepared corpus -> batches, by tf.data: batch n of a length is a function of (seed, n) and of nothing else.

No shuffle buffer and no iterator state: seeking is arithmetic. The corpus' shards are dealt into groups and each
group feeds fixed rows of every batch, so that a host reads only the groups of its rows while the global batch is the
same for any number of hosts. Within a group each sentence comes once an epoch, in a new order each time (visits.py).
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bert_tpu.core import command
from bert_tpu.corpus import store
from bert_tpu.data import chunks, masking, nsp_pairs, packed_batches, packing, sampler
from bert_tpu.tokenizer import vocab

HELDOUT_SEED = 2**31 - 1
SPREAD = 0.1  # of the text of groups, which all feed as many rows
ROW = 128  # tokens, for an estimate of a group's rows


class HostShare(NamedTuple):
    """The text that feeds `rows` of the global batch: the groups `first_group` .. of `num_groups`."""

    rows: range
    num_groups: int
    first_group: int
    text: chunks.Text
    document_start: np.ndarray  # [groups held + 1], in documents
    other_texts: nsp_pairs.OtherTexts
    pieces: tuple[str, ...]
    special: vocab.Ids

    def candidates(self, group):
        """Returns `candidates` of pairs.choose for rows of these groups of the share, [B]."""
        others = nsp_pairs.OtherTexts(*map(tf.constant, self.other_texts))
        sizes = np.diff(self.document_start)
        return others, tf.constant(self.document_start[group]), tf.constant(sizes[group])


def deal(infos, batch_size) -> list[list[store.ShardInfo]]:
    """Shards -> groups of as many shards each; their number is the largest that divides the batch.

    There are fewer groups where they would differ in tokens or in the rows of an epoch by more than SPREAD, as those of
    shards that dealing.py made do not, and where a group has a single text: a random B comes from another text of the
    group.
    """
    for count in range(min(sampler.MAX_GROUPS, len(infos), batch_size), 1, -1):
        if batch_size % count or len(infos) % count:
            continue
        size = len(infos) // count
        groups = [infos[first : first + size] for first in range(0, len(infos), size)]
        tokens = [sum(info.tokens for info in group) for group in groups]
        rows = [sum(info.tokens / ROW + info.documents for info in group) for group in groups]
        is_even = all(max(each) <= (1 + SPREAD) * min(each) for each in (tokens, rows))
        if is_even and all(max(info.texts for info in group) > 1 for group in groups):
            return groups
    return [list(infos)]


def load(lock, split, *, batch_size, packed_rows=0, process_index=0, process_count=1) -> HostShare:
    """Reads the groups that feed this process' rows, each file's hash checked."""
    both = math.gcd(batch_size, packed_rows)  # groups feed whole rows of either kind of batch
    if both % process_count:
        raise command.UserError(
            f"{both} rows, of batch_size and data.packed_rows, do not divide over {process_count} hosts: give "
            f"multiples of {process_count}"
        )
    per_process = batch_size // process_count
    rows = range(process_index * per_process, (process_index + 1) * per_process)
    groups = deal(lock.splits[split], both)
    first, last = (row * len(groups) // batch_size for row in (rows[0], rows[-1]))
    held = groups[first : last + 1]
    documents = [sum(info.documents for info in group) for group in held]
    vocabulary = vocab.load(lock.directory)
    text = chunks.make_text(store.load(lock, [info for group in held for info in group]))
    document_start = np.cumsum([0, *documents])
    other_texts = nsp_pairs.other_texts(text.origins, document_start)
    if len(text.origins) == 0 or (np.diff(document_start)[other_texts.group] == other_texts.count).any():
        raise command.UserError(
            f"the {split} split of the corpus has a single text, and NSP draws B from another: add text"
        )
    return HostShare(
        rows=rows,
        num_groups=len(groups),
        first_group=first,
        text=text,
        document_start=document_start,
        other_texts=other_texts,
        pieces=vocabulary.pieces,
        special=vocab.ids(vocabulary),
    )


class ChunkTable(NamedTuple):
    """A share's chunks for one length; group g of the share has chunks bounds[g] .. bounds[g + 1] - 1.

    In each group the chunks of several sentences come first.
    """

    chunks: chunks.Chunks
    bounds: np.ndarray
    sizes: sampler.GroupSizes

    @property
    def epoch_rows(self) -> np.ndarray:
        """The rows that each group has in an epoch, [groups]."""
        return self.sizes.rows


def chunk_table(share, seq_len, short_prob) -> ChunkTable:
    """Chunks that fill rows of `seq_len` tokens, three of them special."""
    table = chunks.cut(share.text, target=seq_len - 3, short_prob=short_prob)
    bounds = np.searchsorted(table.document, share.document_start)
    is_single = table.last - table.first == 1
    group = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    order = np.lexsort((is_single, group))  # which keeps the order of the text otherwise
    single = np.bincount(group, is_single, len(bounds) - 1).astype(np.int64)
    return ChunkTable(
        chunks.Chunks(*(x[order] for x in table)), bounds, sampler.GroupSizes(np.diff(bounds) - single, single)
    )


def epoch_table(share, spec, seq_len) -> ChunkTable | packing.RowPlan:
    """What the rows of a length visit: chunks, or packed rows of them."""
    if not spec.is_packed(seq_len):
        return chunk_table(share, seq_len, spec.short_prob)
    return packing.plan_rows(
        share.text, share.document_start, seq_len=seq_len, slots=spec.packed_examples, short_prob=spec.short_prob
    )


def _chunk_batch_function(share, table, spec, seq_len):
    """TensorFlow function n -> this share's rows of the n-th batch of `seq_len`, as BatchSpec.shapes says.

    Unused prediction slots hold position 0 and id 0; `next_sentence_label` is 1 where B is random.
    """
    text = chunks.Text(*map(tf.constant, share.text))
    columns = chunks.Chunks(*map(tf.constant, table.chunks))
    continuation = tf.constant([p.startswith("##") for p in share.pieces]) if spec.whole_word else None

    of_rows = sampler.EpochOrder(share, spec, seq_len, table.epoch_rows)
    first_chunk, candidates = tf.constant(table.bounds[of_rows.group]), share.candidates(of_rows.group)

    @tf.autograph.experimental.do_not_convert
    def batch(n):
        visit = sampler.chunk_visits(of_rows, table.sizes, n)
        chunk = chunks.Chunks(*(tf.gather(column, first_chunk + visit.chunk) for column in columns))
        of_pairs, of_masks = sampler.draws(spec, seq_len, len(share.pieces), n, of_rows.rows)
        pair = nsp_pairs.choose(text, chunk, visit, candidates, of_pairs, max_tokens=seq_len - 3)
        rows = nsp_pairs.lay_out(text.tokens, pair, share.special, seq_len=seq_len)
        masked = masking.mask(
            rows, of_masks, rate=spec.mask_rate, mask_id=share.special.mask, is_continuation=continuation
        )
        return {
            "input_ids": masked.input_ids,
            "token_type_ids": rows.types,
            "attention_mask": tf.cast(tf.range(seq_len, dtype=tf.int64)[None] < rows.length[:, None], tf.int32),
            "masked_positions": masked.positions,
            "masked_ids": masked.ids,
            "next_sentence_label": tf.cast(pair.is_random, tf.int32),
        }

    return batch


def stream(share, table, spec, seq_len, first, last):
    """Iterator over batches first .. last - 1 of `seq_len`, each a dictionary of NumPy arrays."""
    numbers = tf.data.Dataset.range(first, last)
    batch = batch_function(share, table, spec, seq_len)
    batches = numbers.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    # A thread that tunes a stream sleeps twice as long each time, up to a minute, and who frees a stream that is at its
    # end may wait for it: 8 to 22 s of runs of a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options).as_numpy_iterator()


def batch_function(share, table, spec, seq_len):
    """Returns make_batch's function n -> batch, for packed rows where the spec packs this length."""
    make = packed_batches.batch_function if spec.is_packed(seq_len) else _chunk_batch_function
    return make(share, table, spec, seq_len)


def train(share, spec, first_step):
    """Iterator over (sequence length, batch) of the steps first_step .. num_steps - 1."""
    streams = {}
    for seq_len in spec.used_lens():
        table = epoch_table(share, spec, seq_len)
        _check_size(table, share, spec, seq_len)
        span = spec.before(first_step, seq_len), spec.before(spec.num_steps, seq_len)
        streams[seq_len] = stream(share, table, spec, seq_len, *span)
    lens = map(spec.seq_len, range(first_step, spec.num_steps))
    return ((seq_len, next(streams[seq_len])) for seq_len in lens)


def examples_per_row(share, spec) -> float:
    """Examples in a packed row of this share's text, on average; 0 where no rows are packed."""
    length = spec.seq_lens[-1]
    return epoch_table(share, spec, length).examples_per_row if spec.is_packed(length) else 0.0


def heldout(share, spec, num_batches):
    """The fixed evaluation set: the first `num_batches` of each length, whatever the run's seed."""
    spec = spec._replace(seed=HELDOUT_SEED)
    for seq_len in spec.used_lens():
        batch = batch_function(share, epoch_table(share, spec, seq_len), spec, seq_len)
        # Op by op: so few batches are made before a graph for them were built.
        for n in tf.range(num_batches, dtype=tf.int64):
            yield seq_len, {name: array.numpy() for name, array in batch(n).items()}


def label_counts(batches) -> list[list[int]]:
    """[sequence length, examples, examples whose B is random] of each of these (length, batch), this host's rows."""
    labels = [(seq_len, batch["next_sentence_label"]) for seq_len, batch in batches]
    return [[n, int((label >= 0).sum()), int((label > 0).sum())] for n, label in labels]  # -1: an empty slot


def _check_size(table, share, spec, seq_len):
    """A row comes once an epoch, so an epoch must hold a batch."""
    least, rows = int(table.epoch_rows.min()), spec.rows(seq_len) // share.num_groups
    if least < rows:
        key = "data.packed_rows" if spec.is_packed(seq_len) else "batch_size"
        raise command.UserError(
            f"the corpus is too small for one batch: {least * share.num_groups} rows of {seq_len} tokens for "
            f"{key} {spec.rows(seq_len)}; add text or lower the batch size"
        )
