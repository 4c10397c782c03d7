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
ROW_TOKENS = 64  # average padding in a document's last row of 128 tokens: many small documents fill more rows


class Items(NamedTuple):
    """N documents or pieces of documents, in the order of the input; [N] each."""

    document: np.ndarray  # number among all documents
    first: np.ndarray  # sentence of the document that the item begins with
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
    """Returns the shard of each item, [N], and the number of shards, halved until each has at least ORIGINS texts.

    origins: number of the text of each document, [D].
    """
    shards = shard_count(int(items.tokens.sum()))
    while True:
        shard_of = _least_full(items.tokens + ROW_TOKENS, shards)
        if shards == 1 or _fewest_origins(shard_of, origins[items.document], shards) >= ORIGINS:
            return shard_of, shards
        shards //= 2


def _least_full(sizes: np.ndarray, shards: int) -> np.ndarray:
    """Deals the items in order, each to the shard with the least so far (of equal ones the first); returns [N]."""
    if shards == 1:
        return np.zeros(len(sizes), np.int64)
    heap, shard_of = [(0, shard) for shard in range(shards)], np.empty(len(sizes), np.int64)
    for i, size in enumerate(sizes.tolist()):
        load, shard = heap[0]
        heapq.heapreplace(heap, (load + size, shard))
        shard_of[i] = shard
    return shard_of


def _fewest_origins(shard_of: np.ndarray, origins: np.ndarray, shards: int) -> int:
    pairs = np.unique(np.stack([shard_of, origins]), axis=1)
    return int(np.bincount(pairs[0], minlength=shards).min())
