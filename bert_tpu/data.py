"""Prepared corpus -> batches, by tf.data: batch n of a length is a function of (seed, n) and of nothing else.

No shuffle buffer and no iterator state: seeking is arithmetic. The corpus' shards are dealt into groups and each
group feeds fixed rows of every batch, so that a host reads only the groups of its rows while the global batch is the
same for any number of hosts. Within a group each chunk is visited once an epoch, in a new order each time.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bert_tpu import chunks, command, corpus, masking, packed, packing, pairs, visits, vocab

HELDOUT_SEED = 2**31 - 1


class Share(NamedTuple):
    """The text that feeds `rows` of the global batch: the groups `first_group` .. of `num_groups`."""

    rows: range
    num_groups: int
    first_group: int
    text: chunks.Text
    document_start: np.ndarray  # [groups held + 1], in documents
    pieces: tuple[str, ...]
    special: vocab.Ids


def deal(infos, batch_size) -> list[list[corpus.ShardInfo]]:
    """Shards -> groups of about equal tokens; their number is the largest that divides the batch.

    Every group has at least two documents, because a random B comes from another document of the group.
    """
    for count in range(min(visits.MAX_GROUPS, len(infos), batch_size), 0, -1):
        if batch_size % count:
            continue
        groups = [[] for _ in range(count)]
        for info in sorted(infos, key=lambda info: (-info.tokens, info.file)):
            min(groups, key=lambda group: sum(member.tokens for member in group)).append(info)
        if all(sum(info.documents for info in group) >= 2 for group in groups):
            return groups
    raise command.UserError("the corpus split has fewer than two documents, and NSP draws B from another: add text")


def load(lock, split, *, batch_size, packed_rows=0, process_index=0, process_count=1) -> Share:
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
    return Share(
        rows=rows,
        num_groups=len(groups),
        first_group=first,
        text=chunks.text(corpus.load(lock, [info for group in held for info in group])),
        document_start=np.cumsum([0, *documents]),
        pieces=vocabulary.pieces,
        special=vocab.ids(vocabulary),
    )


class Table(NamedTuple):
    """A share's chunks for one length; group g of the share has chunks bounds[g] .. bounds[g + 1] - 1."""

    chunks: chunks.Chunks
    bounds: np.ndarray


def cut(share, seq_len) -> Table:
    """Chunks that fill rows of `seq_len` tokens, three of them special."""
    table = chunks.table(share.text, target=seq_len - 3)
    return Table(table, np.searchsorted(table.document, share.document_start))


def entries(share, recipe, seq_len) -> Table | packing.Plan:
    """What the rows of a length visit: chunks, or packed rows of them."""
    if not recipe.is_packed(seq_len):
        return cut(share, seq_len)
    return packing.plan(
        share.text, share.document_start, seq_len=seq_len, slots=recipe.packed_examples, short_prob=recipe.short_prob
    )


def make_batch(share, table, recipe, seq_len):
    """TensorFlow function n -> this share's rows of the n-th batch of `seq_len`, as Recipe.shapes says.

    Unused prediction slots hold position 0 and id 0; `next_sentence_label` is 1 where B is random.
    """
    text = chunks.Text(*map(tf.constant, share.text))
    columns = chunks.Chunks(*map(tf.constant, table.chunks))
    continuation = tf.constant([p.startswith("##") for p in share.pieces]) if recipe.whole_word else None

    visited = visits.Visits(share, table.bounds, recipe, seq_len)
    documents = tuple(map(tf.constant, visited.documents))

    @tf.autograph.experimental.do_not_convert
    def batch(n):
        entry = visited.entries(n)
        chunk = chunks.Chunks(*(tf.gather(column, entry) for column in columns))
        of_pairs, of_masks = visits.draws(recipe, seq_len, len(share.pieces), n, visited.rows)
        pair = pairs.choose(text, chunk, documents, of_pairs, max_tokens=seq_len - 3, short_prob=recipe.short_prob)
        rows = pairs.rows(text.tokens, pair, share.special, seq_len=seq_len)
        masked = masking.mask(
            rows, of_masks, rate=recipe.mask_rate, mask_id=share.special.mask, is_continuation=continuation
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


def stream(share, table, recipe, seq_len, first, last):
    """Iterator over batches first .. last - 1 of `seq_len`, each a dictionary of NumPy arrays."""
    numbers = tf.data.Dataset.range(first, last)
    batch = _maker(share, table, recipe, seq_len)
    batches = numbers.map(batch, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    # A thread that tunes a stream sleeps twice as long each time, up to a minute, and who frees a stream that is at its
    # end may wait for it: 8 to 22 s of runs of a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(tf.data.AUTOTUNE).with_options(options).as_numpy_iterator()


def _maker(share, table, recipe, seq_len):
    make = packed.make_batch if recipe.is_packed(seq_len) else make_batch
    return make(share, table, recipe, seq_len)


def train(share, recipe, first_step):
    """Iterator over (sequence length, batch) of the steps first_step .. num_steps - 1."""
    streams = {}
    for seq_len in recipe.used_lens():
        table = entries(share, recipe, seq_len)
        _check_size(table, share, recipe, seq_len)
        span = recipe.before(first_step, seq_len), recipe.before(recipe.num_steps, seq_len)
        streams[seq_len] = stream(share, table, recipe, seq_len, *span)
    lens = map(recipe.seq_len, range(first_step, recipe.num_steps))
    return ((seq_len, next(streams[seq_len])) for seq_len in lens)


def note(share, recipe, devices) -> str:
    """What packed rows hold of this share's text, in words; "" where no rows are packed."""
    length = recipe.seq_lens[-1]
    return packing.note(entries(share, recipe, length), recipe, devices) if recipe.is_packed(length) else ""


def heldout(share, recipe, num_batches):
    """The fixed evaluation set: the first `num_batches` of each length, whatever the run's seed."""
    recipe = recipe._replace(seed=HELDOUT_SEED)
    for seq_len in recipe.used_lens():
        batch = _maker(share, entries(share, recipe, seq_len), recipe, seq_len)
        # Op by op: so few batches are made before a graph for them were built.
        for n in tf.range(num_batches, dtype=tf.int64):
            yield seq_len, {name: array.numpy() for name, array in batch(n).items()}


def _check_size(table, share, recipe, seq_len):
    """A chunk is met once an epoch, so an epoch must hold a batch."""
    least, rows = int(np.diff(table.bounds).min()), recipe.rows(seq_len) // share.num_groups
    if least < rows:
        what, key = ("rows", "data.packed_rows") if recipe.is_packed(seq_len) else ("chunks", "batch_size")
        raise command.UserError(
            f"the corpus is too small for one batch: {least * share.num_groups} {what} of {seq_len} tokens for "
            f"{key} {recipe.rows(seq_len)}; add text or lower the batch size"
        )
