"""Counts the content of a prepared corpus. It reads one group of shards at a time, as the hosts of a run do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bert_tpu.core import progress
from bert_tpu.corpus import store
from bert_tpu.data import batch_spec, packing

if TYPE_CHECKING:  # it imports TensorFlow
    from bert_tpu.data import corpus_batches, host_share

LENGTHS = 2 ** np.arange(0, 23)  # tokens; bounds of the bins of a histogram
ROWS = 2048  # of each length, from all groups together, counted for padding


class Description(NamedTuple):
    """Numbers of the training split."""

    document_tokens: np.ndarray  # [bins], documents by length in bins bounded by LENGTHS
    sentence_tokens: np.ndarray  # [bins], sentences by length
    pieces: np.ndarray  # [V], occurrences of each piece
    rows: dict[int, np.ndarray]  # by row length: rows of an epoch of each group, [groups]
    single_rows: dict[int, int]  # by row length: rows of an epoch where each is a single segment
    real: dict[int, float]  # by row length: share of tokens that are not padding
    packed_real: float  # the same if examples share rows of the longest length
    packed_examples: float  # mean number of examples in such a row
    packed_epoch: int  # examples in an epoch of such rows

    def epochs(self, spec: batch_spec.BatchSpec) -> dict[int, float]:
        """Returns the epochs by length of a run with these batches."""
        return {n: self._epochs(spec, n) for n in self.rows}

    def _epochs(self, spec: batch_spec.BatchSpec, n: int) -> float:
        rows, single = (spec.rows_before(step, n) for step in (spec.num_steps, spec.first_nsp_step))
        if spec.is_packed(n):
            return rows * self.packed_examples / self.packed_epoch
        return (rows - single) / int(self.rows[n].sum()) + single / self.single_rows[n]

    def spread(self) -> float:
        """Returns how much more often one group's text is shown than another's: the largest share of all lengths."""
        return max(rows.max() / rows.min() - 1 for rows in self.rows.values())


def describe(lock: store.Lock, seq_lens: Sequence[int], *, slots: int) -> Description:
    """Reads, and so verifies, every shard of the training split.

    lock: the corpus
    seq_lens: lengths of rows, ascending
    slots: most examples that share a row
    """
    from bert_tpu.data import corpus_batches, host_share

    documents, sentences = np.zeros(len(LENGTHS), np.int64), np.zeros(len(LENGTHS), np.int64)
    pieces = np.zeros(lock.vocab_size, np.int64)
    rows: dict[int, list[int]] = {n: [] for n in seq_lens}
    single_rows = dict.fromkeys(seq_lens, 0)
    means, packed_epoch = [], 0
    groups = len(host_share.deal(lock.splits["train"], ROWS))
    specs = [*(_spec(n, 0) for n in seq_lens), _spec(seq_lens[-1], slots)]
    with progress.bar(groups, "reading", unit="group") as bar:
        for group in range(groups):
            share = host_share.load(lock, "train", batch_size=ROWS, process_index=group, process_count=groups)
            text = share.text
            documents += _histogram(np.diff(text.sentence_start[text.document_start]))
            sentences += _histogram(np.diff(text.sentence_start))
            pieces += np.bincount(text.tokens, minlength=lock.vocab_size)
            tables = [corpus_batches.epoch_table(share, spec, spec.seq_lens[0]) for spec in specs]
            for n, table in zip(seq_lens, tables, strict=False):
                rows[n].append(int(table.epoch_rows[0]))
                if isinstance(table, corpus_batches.ChunkTable):
                    single_rows[n] += int(table.sizes.chunks[0])
            if isinstance(tables[-1], packing.RowPlan):
                packed_epoch += len(tables[-1].budgets)
            means.append([_row_means(share, table, spec) for table, spec in zip(tables, specs, strict=True)])
            bar.update()
    *real, (packed_real, packed_examples) = np.mean(means, axis=0)  # every group feeds the same number of rows
    return Description(
        document_tokens=documents,
        sentence_tokens=sentences,
        pieces=pieces,
        rows={n: np.array(counts) for n, counts in rows.items()},
        single_rows=single_rows,
        real={n: float(share) for n, (share, _) in zip(seq_lens, real, strict=True)},
        packed_real=float(packed_real),
        packed_examples=float(packed_examples),
        packed_epoch=packed_epoch,
    )


def verify(lock: store.Lock) -> int:
    """Reads every shard of both splits and returns their number. Raises UserError for the first damaged shard."""
    infos = [info for split in store.SPLITS for info in lock.splits[split]]
    with progress.bar(sum(info.bytes for info in infos), "verifying") as bar:
        for info in infos:
            store.load(lock, [info])
            bar.update(info.bytes)
    return len(infos)


def _histogram(lengths: np.ndarray) -> np.ndarray:
    return np.bincount(np.searchsorted(LENGTHS, lengths, side="right") - 1, minlength=len(LENGTHS))


def _spec(seq_len: int, slots: int) -> batch_spec.BatchSpec:
    """Returns the spec of rows of one length. slots: most examples in a row; 0: each has a row of its own."""
    return batch_spec.BatchSpec(
        dir="", seq_lens=(seq_len,), max_predictions=(1,), schedule="phased", long_every=10, short_prob=0.1,
        mask_rate=0.15, whole_word=False, packed_rows=ROWS if slots else 0, packed_examples=slots, seed=0,
        batch_size=ROWS, num_steps=1,
    )  # fmt: skip


def _row_means(
    share: host_share.HostShare, table: corpus_batches.ChunkTable | packing.RowPlan, spec: batch_spec.BatchSpec
) -> tuple[float, float]:
    """Returns (share of real tokens, examples) of a training row: means over a group's rows of one batch."""
    from bert_tpu.data import corpus_batches

    # Op by op: one batch takes less time than building a graph for it.
    batch = corpus_batches.batch_function(share, table, spec, spec.seq_lens[0])(np.int64(0))
    examples = np.sum(batch["next_sentence_label"].numpy() >= 0)
    return np.mean(batch["attention_mask"].numpy() > 0), examples / len(batch["input_ids"])
