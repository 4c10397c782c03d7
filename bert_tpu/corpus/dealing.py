"""Distributes documents over shards. Each shard is an even sample of the corpus, in tokens and in kinds of text.

Training takes the same number of rows from each group of shards. So all groups must have the same amount of text, and
a group must not consist of one source. The documents are dealt in the order of the input, each to the shard with the
least text so far. A document that is large compared with a shard is cut between sentences.
"""

from collections.abc import Callable
import heapq
from typing import NamedTuple

import numpy as np

LEAST_TOKENS = 1 << 17  # tokens of a shard, if there is more than one shard
FULL_TOKENS = 1 << 22  # tokens of a shard from which on there are more than EVEN shards
EVEN, MOST = 64, 256  # shards; powers of two, so that their groups divide a batch
SHARE = 32  # a document is cut into pieces of at most 1/32 of a shard: shards differ by no more than a piece
ORIGINS = 16  # texts in a shard, if there is more than one shard: enough to draw a random B from
BLOCK = 1 << 20  # items dealt at once: a Python number takes ten times the memory of one in an array
ROW_TOKENS = 64  # average padding in a document's last row of 128 tokens: many small documents fill more rows


class Items(NamedTuple):
    """N documents or pieces of documents, in the order of the input; [N] each."""

    document: np.ndarray  # number among all documents
    first: np.ndarray  # sentence of the document that the item begins with
    sentences: np.ndarray
    tokens: np.ndarray


class Pieces(NamedTuple):
    """The pieces of one document; [P] each, as in Items."""

    first: np.ndarray
    sentences: np.ndarray
    tokens: np.ndarray


def shard_count(tokens: int) -> int:
    """Returns the number of shards for a corpus of this many tokens: a power of two, 1 for a little text."""
    shards = 1
    while shards < EVEN and tokens >= 2 * shards * LEAST_TOKENS:
        shards *= 2
    while EVEN <= shards < MOST and tokens >= 2 * shards * FULL_TOKENS:
        shards *= 2
    return shards


def cut(tokens: np.ndarray, sentences: np.ndarray, copies: np.ndarray, lengths: Callable[[int], np.ndarray]) -> Items:
    """Returns all copies of all documents. Documents that are too large for an even deal come as pieces.

    tokens: of each document, [D].
    sentences: of each document, [D].
    copies: of each document, [D]; 0 leaves it out.
    lengths: document number -> tokens of each of its sentences; called for the large documents in rising order.
    """
    total = int((tokens * copies).sum())
    limit = total // shard_count(total) // SHARE if shard_count(total) > 1 else total
    document = np.flatnonzero(copies)
    large = np.flatnonzero(tokens[document] > limit)
    pieces = [_pieces(lengths(i), limit) for i in document[large]]
    times = copies[document]  # that an item comes, pieces included
    counts = np.ones(len(document), np.int32)
    counts[large] = [len(of_one.first) for of_one in pieces]
    items = Items(document, np.zeros(len(document), np.int32), sentences[document], tokens[document])
    items = Items(*(np.repeat(column, counts) for column in items))
    for start, of_one in zip((np.cumsum(counts) - counts)[large], pieces, strict=True):
        for column, values in zip(items[1:], of_one, strict=True):
            column[start : start + len(values)] = values
    times = np.repeat(times, counts)
    return Items(*(np.repeat(column, times) for column in items))


def _pieces(lengths: np.ndarray, limit: int) -> Pieces:
    """Cuts a document with sentences of these lengths, [S], into equal parts of about `limit` tokens or less."""
    ends = np.cumsum(lengths, dtype=np.int64)
    parts = -(-int(ends[-1]) // limit)
    # The sentence that reaches each equal part of the document ends the piece.
    bounds = np.unique([0, *(1 + np.searchsorted(ends, np.arange(1, parts + 1) * ends[-1] / parts - 0.5))])
    return Pieces(bounds[:-1], np.diff(bounds), np.diff(np.concatenate([[0], ends])[bounds]))


def deal(items: Items, origins: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the shard of each item, [N], and the number of shards, halved until each has at least ORIGINS texts.

    origins: number of the text of each document, [D].
    """
    shards = shard_count(int(items.tokens.sum()))
    while True:
        shard_of = _least_full(items.tokens + ROW_TOKENS, shards)
        # The first items show it, unless there are few texts. All of 1e9 would take 40 GB.
        for end in (BLOCK, len(shard_of)):
            texts = origins[items.document[:end]]
            if shards == 1 or _fewest_origins(shard_of[:end], texts, shards) >= ORIGINS:
                return shard_of, shards
        shards //= 2


def _least_full(sizes: np.ndarray, shards: int) -> np.ndarray:
    """Deals the items in order, each to the shard with the least so far (of equal ones the first); returns [N]."""
    if shards == 1:
        return np.zeros(len(sizes), np.int16)
    heap, shard_of = [(0, shard) for shard in range(shards)], np.empty(len(sizes), np.int16)
    for start in range(0, len(sizes), BLOCK):
        places = []
        for size in sizes[start : start + BLOCK].tolist():
            load, shard = heap[0]
            heapq.heapreplace(heap, (load + size, shard))
            places.append(shard)
        shard_of[start : start + BLOCK] = places
    return shard_of


def _fewest_origins(shard_of: np.ndarray, origins: np.ndarray, shards: int) -> int:
    pairs = np.unique(origins * np.int64(shards) + shard_of)
    return int(np.bincount(pairs % shards, minlength=shards).min())
