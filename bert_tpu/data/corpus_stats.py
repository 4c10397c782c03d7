"""Counts what is in a prepared corpus. It reads one group of shards at a time, as the hosts of a training do."""

from typing import NamedTuple

import numpy as np

from bert_tpu.core import progress
from bert_tpu.corpus import store
from bert_tpu.data import batch_spec

LENGTHS = 2 ** np.arange(0, 23)  # tokens; bounds of the bins of a histogram
ROWS = 2048  # of each length, looked at for padding, of all groups together


class Description(NamedTuple):
    """Numbers of the training split."""

    document_tokens: np.ndarray  # [bins] documents by length, bins as LENGTHS
    sentence_tokens: np.ndarray  # the same of sentences
    pieces: np.ndarray  # [V] how often each comes
    rows: dict[int, np.ndarray]  # by row length: rows of an epoch of each group, [groups]
    real: dict[int, float]  # by row length: share of tokens that are no padding
    packed_real: float  # the same where examples share rows of the longest length
    packed_examples: float  # in such a row
    packed_epoch: int  # examples of an epoch of such rows

    def epochs(self, examples: dict[int, int]) -> dict[int, float]:
        """How often a schedule of so many examples by length shows the corpus."""
        return {n: count / int(self.rows[n].sum()) for n, count in examples.items()}

    def spread(self) -> float:
        """By how much the text of one group is shown more often than that of another, as a share; of all lengths."""
        return max(rows.max() / rows.min() - 1 for rows in self.rows.values())


def describe(lock: store.Lock, seq_lens, *, slots: int) -> Description:
    """Reads, and so verifies, every shard of the training split. slots: most examples that share a row."""
    from bert_tpu.data import corpus_batches

    documents, sentences = np.zeros(len(LENGTHS), np.int64), np.zeros(len(LENGTHS), np.int64)
    pieces, rows, looked = np.zeros(lock.vocab_size, np.int64), {n: [] for n in seq_lens}, []
    packed_epoch = 0
    groups = len(corpus_batches.deal(lock.splits["train"], ROWS))
    forms = [*((n, 0) for n in seq_lens), (seq_lens[-1], slots)]
    with progress.bar(groups, "reading", unit="group") as bar:
        for group in range(groups):
            share = corpus_batches.load(lock, "train", batch_size=ROWS, process_index=group, process_count=groups)
            text = share.text
            documents += _histogram(np.diff(text.sentence_start[text.document_start]))
            sentences += _histogram(np.diff(text.sentence_start))
            pieces += np.bincount(text.tokens, minlength=lock.vocab_size)
            tables = [corpus_batches.epoch_table(share, _spec(*form), form[0]) for form in forms]
            for n, table in zip(seq_lens, tables, strict=False):
                rows[n].append(int(table.epoch_rows[0]))
            packed_epoch += len(tables[-1].budgets)
            looked.append([_look(share, table, *form) for form, table in zip(forms, tables, strict=True)])
            bar.update()
    *real, packed = np.mean(looked, axis=0)  # each group feeds as many rows
    return Description(
        documents, sentences, pieces, {n: np.array(each) for n, each in rows.items()},
        {n: float(share) for n, (share, _) in zip(seq_lens, real, strict=True)}, *map(float, packed), packed_epoch,
    )  # fmt: skip


def verify(lock: store.Lock) -> int:
    """Reads every shard of both splits; returns their number. Raises UserError that names the first that is unsound."""
    infos = [info for split in store.SPLITS for info in lock.splits[split]]
    with progress.bar(sum(info.bytes for info in infos), "verifying") as shown:
        for info in infos:
            store.load(lock, [info])
            shown.update(info.bytes)
    return len(infos)


def _histogram(lengths):
    return np.bincount(np.searchsorted(LENGTHS, lengths, side="right") - 1, minlength=len(LENGTHS))


def _spec(seq_len, slots):
    """The spec of rows of one length. slots: most examples that share a row; 0: each has one of its own."""
    return batch_spec.BatchSpec(
        dir="", seq_lens=(seq_len,), max_predictions=(1,), schedule="phased", long_every=10, short_prob=0.1,
        mask_rate=0.15, whole_word=False, packed_rows=ROWS if slots else 0, packed_examples=slots, seed=0,
        batch_size=ROWS, num_steps=1,
    )  # fmt: skip


def _look(share, table, seq_len, slots):
    """(share of real tokens, examples) of a row as training has them, from a group's rows of one batch."""
    from bert_tpu.data import corpus_batches

    # Op by op: one batch is made before a graph for it were built.
    batch = corpus_batches.batch_function(share, table, _spec(seq_len, slots), seq_len)(np.int64(0))
    examples = np.sum(batch["next_sentence_label"].numpy() >= 0)
    return np.mean(batch["attention_mask"].numpy() > 0), examples / len(batch["input_ids"])
