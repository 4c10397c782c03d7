"""The fixed table of chunks: runs of sentences of one document that fill a row.

create_pretraining_data.py adds sentences until the target length is reached; so does this table, at the full target.
Where a chunk is split, whether its second half is replaced and whether it is shortened is drawn anew at each visit
(pairs.py). Named departure: what such a draw leaves unused is met at another visit of the same chunk, not by moving
the chunk after it, so that the table is fixed and a batch stays a function of seed and step.
"""

from typing import NamedTuple

import numpy as np

from bert_tpu import shingles


class Text(NamedTuple):
    """Tokens with their boundaries: S sentences, D documents."""

    tokens: np.ndarray  # uint16
    sentence_start: np.ndarray  # int64 [S + 1], in tokens
    document_start: np.ndarray  # int64 [D + 1], in sentences


class Chunks(NamedTuple):
    """N runs of sentences, in the text's order; int64 [N] each."""

    first: np.ndarray  # in sentences
    last: np.ndarray  # one past the chunk's last sentence
    document: np.ndarray


def text(shard) -> Text:
    """A shard's lengths turned into places."""
    return Text(shard.tokens, _starts(shard.sentences), _starts(shard.documents))


TOLD_BY = 8  # tokens at a chunk's start that decide, where the table does, whether its target is short


def table(text, *, target, short_prob=0.0) -> Chunks:
    """Cuts documents into chunks of at least `target` tokens; the last of a document may be shorter.

    short_prob: share of chunks whose target is a shorter one, as `targets` says. Every sentence is in exactly one
    chunk. All documents advance together, a chunk a round, so that a billion tokens take seconds.
    """
    cursor, ends = text.document_start[:-1].copy(), text.document_start[1:]
    active = np.arange(len(ends))
    found = []
    while active.size:
        first = cursor[active]
        aim = text.sentence_start[first] + targets(text, first, target, short_prob)
        full = np.searchsorted(text.sentence_start, aim, side="left")
        last = np.minimum(full, ends[active])
        found.append((first, last, active))
        cursor[active] = last
        active = active[last < ends[active]]
    first, last, document = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(first)
    return Chunks(first[order], last[order], document[order])


def targets(text, first, most, short_prob) -> np.ndarray:
    """The target of the chunk that begins with each sentence of `first`: `most`, or from 2 up, by its first tokens."""
    if not short_prob:
        return np.full(len(first), most)
    width = min(TOLD_BY, len(text.tokens))
    drawn = shingles.of_runs(text.tokens, np.minimum(text.sentence_start[first], len(text.tokens) - width), width)
    short = 2 + (drawn & np.uint64(0xFFFFFFFF)).astype(np.int64) % (most - 1)
    return np.where((drawn >> np.uint64(32)) < short_prob * 2.0**32, short, most)


def _starts(lengths):
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
