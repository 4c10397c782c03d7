"""What is in a prepared corpus, in numbers: read shard by shard, so that memory does not grow with it."""

from typing import NamedTuple

import numpy as np

from bert_tpu import chunks, corpus, picking, progress

LENGTHS = 2 ** np.arange(0, 23)  # tokens; bounds of the bins of a histogram
BATCHES, ROWS = 8, 256  # of each length, looked at for padding


class Description(NamedTuple):
    """Of the training split."""

    document_tokens: np.ndarray  # [bins] documents by length, bins as LENGTHS
    sentence_tokens: np.ndarray  # the same of sentences
    pieces: np.ndarray  # [V] how often each comes
    chunks: dict[int, int]  # by row length: an epoch's examples
    real: dict[int, float]  # by row length: share of tokens that are no padding
    packed_real: float  # the same where examples share rows of the longest length
    packed_examples: float  # in such a row

    def epochs(self, examples: dict[int, int]) -> dict[int, float]:
        """How often a schedule of so many examples by length visits all chunks."""
        return {n: count / self.chunks[n] for n, count in examples.items()}


def describe(lock: corpus.Lock, seq_lens, *, slots: int) -> Description:
    """Reads, and so verifies, every shard of the training split. slots: most examples that share a row."""
    documents, sentences = np.zeros(len(LENGTHS), np.int64), np.zeros(len(LENGTHS), np.int64)
    pieces, counts = np.zeros(lock.vocab_size, np.int64), dict.fromkeys(seq_lens, 0)
    infos = lock.splits["train"]
    with progress.bar(sum(info.bytes for info in infos), "reading") as shown:
        for info in infos:
            shard = corpus.load(lock, [info])
            documents += _histogram(picking.tokens_of(shard))
            sentences += _histogram(shard.sentences)
            pieces += np.bincount(shard.tokens, minlength=lock.vocab_size)
            text = chunks.text(shard)
            for seq_len in seq_lens:
                counts[seq_len] += len(chunks.table(text, target=seq_len - 3).first)
            shown.update(info.bytes)
    real = {n: _rows(lock, n, 0)[0] for n in seq_lens}
    return Description(documents, sentences, pieces, counts, real, *_rows(lock, seq_lens[-1], slots))


def verify(lock: corpus.Lock) -> int:
    """Reads every shard of both splits; returns their number. Raises UserError that names the first that is unsound."""
    infos = [info for split in corpus.SPLITS for info in lock.splits[split]]
    with progress.bar(sum(info.bytes for info in infos), "verifying") as shown:
        for info in infos:
            corpus.load(lock, [info])
            shown.update(info.bytes)
    return len(infos)


def _histogram(lengths):
    return np.bincount(np.searchsorted(LENGTHS, lengths, side="right") - 1, minlength=len(LENGTHS))


def _rows(lock, seq_len, slots):
    """(share of real tokens, examples) of a row as training has them, from some batches of one group of shards.

    slots: most examples that share a row; 0: each has one of its own.
    """
    from bert_tpu import data, recipe  # TensorFlow, which takes seconds

    rules = recipe.Recipe(
        dir=str(lock.directory), seq_lens=(seq_len,), max_predictions=(1,), schedule="phased", long_every=10,
        short_prob=0.1, mask_rate=0.15, whole_word=False, packed_rows=ROWS if slots else 0, packed_examples=slots,
        seed=0, batch_size=ROWS, num_steps=BATCHES,
    )  # fmt: skip
    groups = len(data.deal(lock.splits["train"], ROWS))
    share = data.load(lock, "train", batch_size=ROWS, process_index=0, process_count=groups)
    batches = data.stream(share, data.entries(share, rules, seq_len), rules, seq_len, 0, BATCHES * groups)
    looked = [((b["attention_mask"] > 0).mean(), np.sum(b["next_sentence_label"] >= 0) / len(b["input_ids"]))
              for b in batches]  # fmt: skip
    return tuple(map(float, np.mean(looked, axis=0)))
