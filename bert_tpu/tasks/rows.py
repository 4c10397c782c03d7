"""Texts as rows of tokens: [CLS] A [SEP], of a pair B [SEP] behind it, cut to the length that the model takes."""

from collections.abc import Sequence
import itertools

import numpy as np

from bert_tpu import command, vocab
from bert_tpu.tasks import task

SHORTEST = 5  # [CLS] a [SEP] b [SEP]
CHUNK = 10_000  # rows that are encoded at a time; Python's lists of their ids are some MB


def encode(
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    labels: np.ndarray,
    *,
    max_length: int,
    vocabulary: vocab.Vocab,
) -> task.Rows:
    """Row i is [CLS] texts[i] [SEP], of types 0, and unless pairs is None, pairs[i] [SEP], of types 1.

    "[SEP]" within a text is four ordinary words. A row of more than max_length tokens loses them from the end of the
    longer text, one at a time. Where both are cut and an odd token is left, the longer one keeps it, the second of
    equals: so does longest_first of transformers' fast tokenizers; _truncate_seq_pair of google-research/bert always
    leaves it to the first. Raises UserError where max_length is below SHORTEST.
    """
    check(max_length)
    made = vocab.tokenizer(vocabulary)
    made.post_processor = vocab.frame(vocabulary)
    made.enable_truncation(max_length, strategy="longest_first")
    inputs = texts if pairs is None else list(zip(texts, pairs, strict=True))
    chunks, starts = [np.zeros(0, np.uint16)], [np.zeros(1, np.int64)]
    for start in range(0, len(inputs), CHUNK):
        ids = [encoding.ids for encoding in made.encode_batch_fast(inputs[start : start + CHUNK])]
        chunks.append(np.fromiter(itertools.chain.from_iterable(ids), np.uint16))
        starts.append(starts[-1][-1] + np.cumsum([len(row) for row in ids], dtype=np.int64))
    ids, starts = np.concatenate(chunks), np.concatenate(starts)
    return task.Rows(ids, _types(ids, starts, vocab.ids(vocabulary).sep), starts, labels)


def check(max_length: int) -> None:
    """Raises UserError for a length that has no room for text."""
    if max_length < SHORTEST:
        raise command.UserError(f"max_length {max_length} has no room for a pair; take {SHORTEST} or more")


def _types(ids: np.ndarray, starts: np.ndarray, sep: int) -> np.ndarray:
    """uint8 [all tokens]: 1 behind a row's first [SEP]."""
    before = np.cumsum(ids == sep) - (ids == sep)
    return (before > np.repeat(before[starts[:-1]], np.diff(starts))).astype(np.uint8)
