"""The fixed table of chunks: runs of sentences of one document that fill a row.

create_pretraining_data.py adds sentences until the target length is reached; so does this table, at the full target.
Where a chunk is split, whether its second half is replaced and whether it is shortened is drawn anew at each visit
(pairs.py). Named departure: what such a draw leaves unused is met at another visit of the same chunk, not by moving
the chunk after it, so that the table is fixed and a batch stays a function of seed and step.
"""

from typing import NamedTuple

import numpy as np


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


def table(text, *, target) -> Chunks:
    """Cuts documents into chunks of at least `target` tokens; the last of a document may be shorter.

    Every sentence is in exactly one chunk. All documents advance together, a chunk a round, so that a billion tokens
    take seconds.
    """
    cursor, ends = text.document_start[:-1].copy(), text.document_start[1:]
    active = np.arange(len(ends))
    found = []
    while active.size:
        first = cursor[active]
        full = np.searchsorted(text.sentence_start, text.sentence_start[first] + target, side="left")
        last = np.minimum(full, ends[active])
        found.append((first, last, active))
        cursor[active] = last
        active = active[last < ends[active]]
    first, last, document = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(first)
    return Chunks(first[order], last[order], document[order])


def _starts(lengths):
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
