"""Encodes texts as rows of tokens: [CLS] A [SEP], and for a pair B [SEP] after it, cut to the model's length."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bert_tpu.core import command
from bert_tpu.tokenizer import encoding, vocab

IGNORED = -1  # the label of a row or token that is not trained on
SHORTEST = 5  # [CLS] a [SEP] b [SEP]
CHUNK = 10_000  # rows whose words are in memory as Python strings at a time


class Rows(NamedTuple):
    """Examples in the model's format, one after the other: row i has the tokens starts[i] .. starts[i + 1] - 1.

    labels: int32 [N] for classes, float32 [N] for scores, int32 [all tokens] for tags; for spans int32 [N, 2], the
    places of the first and the last token in the row. IGNORED where there is none, in a test split everywhere.
    """

    ids: np.ndarray  # uint16, or uint32 of a large vocabulary, with [CLS] and [SEP]
    types: np.ndarray  # uint8
    starts: np.ndarray  # int64 [N + 1]
    labels: np.ndarray
    lost: np.ndarray | None = None  # int64 [N], tokens that were cut off each row; None if they are not counted

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row, [N]."""
        return np.diff(self.starts)


def encode(
    texts: Sequence[str],
    pairs: Sequence[str] | None,
    labels: np.ndarray,
    *,
    max_length: int,
    vocabulary: vocab.Vocab,
) -> Rows:
    """Returns rows: row i is [CLS] texts[i] [SEP], of type 0, then pairs[i] [SEP], of type 1, unless pairs is None.

    "[SEP]" within a text is four ordinary words. A row of more than max_length tokens loses tokens from the end of the
    longer text, one at a time. If both are cut and an odd token is left, the longer text keeps it, and the second of
    two equals. longest_first of transformers' fast tokenizers does the same; _truncate_seq_pair of google-research/bert
    always leaves it to the first.

    texts: N texts
    pairs: N second texts, or None
    labels: as in Rows
    max_length: most tokens of a row; UserError if it is below SHORTEST
    vocabulary: the pieces of the tokens
    """
    check(max_length)
    encoder, special = encoding.Encoder(vocabulary), vocab.ids(vocabulary)
    cls, sep = (encoder.dtype.type(i).tobytes() for i in (special.cls, special.sep))
    size = encoder.dtype.itemsize
    sides = [texts] if pairs is None else [texts, pairs]
    ids, lengths, lost = [], [np.zeros((0, len(sides)), np.int64)], [np.zeros(0, np.int64)]
    for start in range(0, len(texts), CHUNK):
        codes = [encoder.encode(list(side[start : start + CHUNK])) for side in sides]
        full = [np.array([len(code) // size for code in side]) for side in codes]
        kept = _cut(full, max_length)
        ids += [
            cls + b"".join(code[: size * count] + sep for code, count in zip(row, counts, strict=True))
            for row, counts in zip(zip(*codes, strict=True), kept.tolist(), strict=True)
        ]
        lengths.append(kept + 1)
        lost.append(sum(full) - kept.sum(1))
    side_lengths = np.concatenate(lengths)  # of each side, with its [SEP]
    side_lengths[:, 0] += 1  # and [CLS]
    types = np.repeat(np.tile(np.arange(len(sides), dtype=np.uint8), len(texts)), side_lengths.ravel())
    starts = np.append(0, np.cumsum(side_lengths.sum(1)))
    return Rows(np.frombuffer(b"".join(ids), encoder.dtype), types, starts, labels, np.concatenate(lost))


def check(max_length: int) -> None:
    """Raises UserError for a length that has no room for text."""
    if max_length < SHORTEST:
        raise command.UserError(f"max_length {max_length} has no room for a pair; take {SHORTEST} or more")


def _cut(lengths: list[np.ndarray], max_length: int) -> np.ndarray:
    """Returns the tokens to keep of texts of these lengths: int64 [rows, 1], or [rows, 2] for pairs."""
    if len(lengths) == 1:
        return np.minimum(lengths[0], max_length - 2)[:, None]
    a, b = lengths
    half, odd = divmod(max_length - 3, 2)
    keep_a = np.minimum(a, np.maximum(max_length - 3 - b, half + odd * (a > b)))
    keep_b = np.minimum(b, np.maximum(max_length - 3 - a, half + odd * (a <= b)))
    return np.stack([keep_a, keep_b], 1)
