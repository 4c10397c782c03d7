"""Loads the part of a prepared corpus that feeds one host's rows of every batch.

The corpus' shards are dealt into groups, and each group feeds fixed rows of every batch. So a host reads only the
groups of its rows, while the global batch is the same for any number of hosts.
"""

from collections.abc import Sequence
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bert_tpu.core import command
from bert_tpu.corpus import store
from bert_tpu.data import chunks, nsp_pairs
from bert_tpu.tokenizer import vocab

MAX_GROUPS = 64  # hosts that can each have a share of their own
SPREAD = 0.1  # largest relative difference in text between groups, which all feed the same number of rows
ROW = 128  # tokens, for an estimate of a group's rows


class HostShare(NamedTuple):
    """The text that feeds `rows` of the global batch: G of the `num_groups` groups, from `first_group` on."""

    rows: range
    num_groups: int
    first_group: int
    text: chunks.Text
    document_start: np.ndarray  # [G + 1], in documents
    other_texts: nsp_pairs.OtherTexts
    pieces: tuple[str, ...]
    special: vocab.Ids

    def candidates(self, group: np.ndarray) -> nsp_pairs.Candidates:
        """Returns the documents for a random B of each row. group: int [B], the row's group within the share."""
        sizes = np.diff(self.document_start)
        return nsp_pairs.Candidates(
            nsp_pairs.OtherTexts(*map(tf.constant, self.other_texts)),
            tf.constant(self.document_start[group]),
            tf.constant(sizes[group]),
        )


def deal(infos: Sequence[store.ShardInfo], batch_size: int) -> list[list[store.ShardInfo]]:
    """Deals shards into groups of equally many shards. Their number is the largest that divides the batch.

    There are fewer groups if they would differ by more than SPREAD in tokens or in the rows of an epoch (shards from
    dealing.py never do), and if a group would have a single text: a random B comes from another text of the group.
    """
    for count in range(min(MAX_GROUPS, len(infos), batch_size), 1, -1):
        if batch_size % count or len(infos) % count:
            continue
        size = len(infos) // count
        groups = [list(infos[first : first + size]) for first in range(0, len(infos), size)]
        tokens = [sum(info.tokens for info in group) for group in groups]
        rows = [sum(info.tokens / ROW + info.documents for info in group) for group in groups]
        is_even = all(max(amounts) <= (1 + SPREAD) * min(amounts) for amounts in (tokens, rows))
        if is_even and all(max(info.texts for info in group) > 1 for group in groups):
            return groups
    return [list(infos)]


def load(
    lock: store.Lock,
    split: str,
    *,
    batch_size: int,
    packed_rows: int = 0,
    ramp_rows: Sequence[int] = (),
    process_index: int = 0,
    process_count: int = 1,
) -> HostShare:
    """Reads the groups that feed this process' rows and checks each file's hash.

    Raises UserError if the rows do not divide over the processes, if a shard is damaged, and if the split has a
    single text.

    lock: the corpus
    split: "train" or "heldout"
    batch_size, packed_rows, ramp_rows: rows of all kinds of global batch (BatchSpec.row_counts)
    """
    common_rows = math.gcd(batch_size, packed_rows, *ramp_rows)  # groups feed whole rows of each kind of batch
    if common_rows % process_count:
        ramp = ", ".join(map(str, ramp_rows))
        settings = {"batch_size": batch_size, "data.packed_rows": packed_rows, "the ramp's rows": ramp}
        keys = " and ".join(f"{key} {value}" for key, value in settings.items() if value)
        raise command.UserError(
            f"{process_count} hosts cannot share the rows of {keys}: set each to a multiple of {process_count}"
        )
    per_process = batch_size // process_count
    rows = range(process_index * per_process, (process_index + 1) * per_process)
    groups = deal(lock.splits[split], common_rows)
    first, last = (row * len(groups) // batch_size for row in (rows[0], rows[-1]))
    own_groups = groups[first : last + 1]
    documents = [sum(info.documents for info in group) for group in own_groups]
    vocabulary = vocab.load(lock.directory)
    text = chunks.make_text(store.load(lock, [info for group in own_groups for info in group]))
    document_start = np.cumsum([0, *documents])
    other_texts = nsp_pairs.other_texts(text.origins, document_start)
    if len(text.origins) == 0 or (np.diff(document_start)[other_texts.group] == other_texts.own_count).any():
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
