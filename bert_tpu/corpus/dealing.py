"""Which document goes to which shard: each shard is an even sample of the corpus, in tokens and in kinds of text.

Training gives each group of shards the same number of rows. So the groups must hold the same amount of text, and a
group must not be one source. The documents are dealt in the order of the input, each to the shard with the least text
so far. A document that is large compared with a shard is cut at its sentences.
"""

import heapq
from typing import NamedTuple

import numpy as np

LEAST_TOKENS = 1 << 17  # of a shard, where there is more than one
FULL_TOKENS = 1 << 22  # of a shard, from which on there are more than EVEN of them
EVEN, MOST = 64, 256  # shards; powers of two, so that their groups divide a batch
SHARE = 32  # a document is cut into pieces of at most this part of a shard: shards differ by no more than a piece
ORIGINS = 16  # texts in a shard, where there is more than one shard: a random B has a choice
ROW_TOKENS = 64  # that a document's last row of 128 leaves empty on average: many little documents fill more rows


class Items(NamedTuple):
    """N documents or pieces of documents, in the order of the input; [N] each."""

    document: np.ndarray  # among all documents
    first: np.ndarray  # sentence of the document that the item starts with
    sentences: np.ndarray
    tokens: np.ndarray


def number(tokens: int) -> int:
    """The number of shards for a corpus of so many tokens: a power of two, 1 for a little text."""
    shards = 1
    while shards < EVEN and tokens >= 2 * shards * LEAST_TOKENS:
        shards *= 2
    while EVEN <= shards < MOST and tokens >= 2 * shards * FULL_TOKENS:
        shards *= 2
    return shards


def cut(tokens: np.ndarray, sentences: np.ndarray, copies: np.ndarray, lengths) -> Items:
    """All copies of all documents, those that are too large for an even deal as pieces.

    tokens, sentences, copies: of each document, [D]; a document with 0 copies is left out. lengths: function of a
    document's number that returns the tokens of its sentences; it is called for the large ones, in rising order.
    """
    total = int((tokens * copies).sum())
    limit = total // number(total) // SHARE if number(total) > 1 else total
    document = np.flatnonzero(copies)
    is_large = tokens[document] > limit
    whole = document[~is_large]
    items = [Items(whole, np.zeros_like(whole), sentences[whole], tokens[whole])]
    for large in document[is_large]:
        ends = np.cumsum(lengths(large), dtype=np.int64)
        pieces = -(-int(ends[-1]) // limit)
        # The sentence that reaches each equal part of the document ends the piece.
        bounds = np.unique([0, *(1 + np.searchsorted(ends, np.arange(1, pieces + 1) * ends[-1] / pieces - 0.5))])
        starts = np.concatenate([[0], ends])[bounds]
        items.append(Items(np.full(len(bounds) - 1, large), bounds[:-1], np.diff(bounds), np.diff(starts)))
    joined = Items(*(np.concatenate(columns) for columns in zip(*items, strict=True)))
    order = np.argsort(joined.document, kind="stable")
    joined = Items(*(column[order] for column in joined))
    return Items(*(np.repeat(column, copies[joined.document]) for column in joined))


def deal(items: Items, origins: np.ndarray) -> tuple[np.ndarray, int]:
    """(the shard of each item, [N], the number of shards). origins: the number of the text of each document.

    There are fewer shards where one would have fewer than ORIGINS texts.
    """
    shards = number(int(items.tokens.sum()))
    while True:
        dealt = _least_full(items.tokens + ROW_TOKENS, shards)
        if shards == 1 or _fewest_origins(dealt, origins[items.document], shards) >= ORIGINS:
            return dealt, shards
        shards //= 2


def _least_full(sizes, shards):
    """The shard of each item, in order: the one with the least so far, of equal ones the first."""
    if shards == 1:
        return np.zeros(len(sizes), np.int64)
    heap, dealt = [(0, shard) for shard in range(shards)], np.empty(len(sizes), np.int64)
    for i, size in enumerate(sizes.tolist()):
        load, shard = heap[0]
        heapq.heapreplace(heap, (load + size, shard))
        dealt[i] = shard
    return dealt


def _fewest_origins(dealt, origins, shards):
    pairs = np.unique(np.stack([dealt, origins]), axis=1)
    return int(np.bincount(pairs[0], minlength=shards).min())
