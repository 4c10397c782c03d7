"""Documents that say the same: equal ones by a hash of their tokens, similar ones by MinHash.

A sketch estimates the Jaccard similarity of two documents' sets of five-token runs (Broder 1997); documents whose
sketches agree in one of BANDS bands are compared (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4).
Of two documents at a similarity of 0.8 the bands find 95 in a hundred, at 0.9 all.
"""

import functools
import hashlib

import numpy as np

from bert_tpu.core import hashing
from bert_tpu.corpus import selection

RUN = 5  # tokens
PERMUTATIONS, BANDS = 128, 16
SEED = 0
BLOCK = 1 << 16  # pairs compared at once


def hashes(shard) -> np.ndarray:
    """uint64 [D], equal for documents of the same tokens."""
    raw, lengths = shard.tokens.tobytes(), 2 * selection.tokens_of(shard)
    ends = np.cumsum(lengths)
    digests = (hashlib.blake2b(raw[a:b], digest_size=8).digest() for a, b in zip(ends - lengths, ends, strict=True))
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def sketches(shard, own) -> np.ndarray:
    """uint32 [D, PERMUTATIONS]. own: the documents' hashes; of one without a whole run that is all there is."""
    import rensa  # here, because only the processes that make sketches need it

    lengths = selection.tokens_of(shard)
    found, rows = hashing.hash_windows(shard.tokens, lengths, RUN)
    short = np.flatnonzero(lengths < RUN)
    order = np.argsort(np.concatenate([rows, short]), kind="stable")
    flat = np.concatenate([found, own[short]])[order]
    bounds = np.concatenate([[0], np.cumsum(np.maximum(lengths - RUN + 1, 1))]).astype(np.uint64)
    if not len(lengths):
        return np.empty((0, PERMUTATIONS), np.uint32)
    made = rensa.RMinHash.digest_matrix_from_flat_token_hashes(flat, bounds, PERMUTATIONS, SEED)
    return np.array(made.to_rows(), np.uint32).reshape(-1, PERMUTATIONS)


def bands(sketches) -> np.ndarray:
    """uint64 [BANDS, D]: a hash of each band of the sketches."""
    rows = PERMUTATIONS // BANDS
    flat = np.ascontiguousarray(sketches, np.uint64).ravel()
    starts = np.arange(len(sketches)) * PERMUTATIONS
    return np.stack([hashing.hash_runs(flat, starts + band * rows, rows) for band in range(BANDS)])


def equal(own) -> np.ndarray:
    """Whether a document has the hash of one before it, [N] bool. own: the hashes of all, in their order."""
    _, first = np.unique(own, return_index=True)
    repeated = np.ones(len(own), bool)
    repeated[first] = False
    return repeated


def similar(sizes, load_band, load_sketches, threshold) -> np.ndarray:
    """Whether a document is, over others perhaps, like one before it, by estimates of `threshold` or more; [N] bool.

    sizes: documents of each part. load_band: (part, band) -> uint64 [its documents]. load_sketches: part -> sketches.
    Holds one band of all documents, and the sketches of a few parts, at a time.
    """
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    least = np.arange(bounds[-1])  # a tree: each document points to an earlier one that it is like

    def root(document):
        while least[document] != document:
            least[document] = least[least[document]]
            document = least[document]
        return document

    for band in range(BANDS):
        of_all = np.concatenate([np.empty(0, np.uint64), *(load_band(part, band) for part in range(len(sizes)))])
        for one, other in _agreeing(_pairs(of_all), bounds, load_sketches, threshold):
            low, high = sorted((root(one), root(other)))
            least[high] = low
    return least != np.arange(bounds[-1])


def _pairs(hashes):
    """Of documents with equal hashes each with the one before it, [P, 2]."""
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(hashes[order][1:] == hashes[order][:-1])
    return np.stack([order[same], order[same + 1]], axis=1)


def _agreeing(pairs, bounds, load_sketches, threshold):
    """Those pairs whose sketches agree in a share of at least `threshold`."""
    load = functools.lru_cache(maxsize=64)(load_sketches)

    def sketch_of(documents):
        parts = np.searchsorted(bounds, documents, side="right") - 1
        made = np.empty((len(documents), PERMUTATIONS), np.uint32)
        for part in np.unique(parts):
            here = parts == part
            made[here] = load(part)[documents[here] - bounds[part]]
        return made

    for start in range(0, len(pairs), BLOCK):
        block = pairs[start : start + BLOCK]
        share = np.mean(sketch_of(block[:, 0]) == sketch_of(block[:, 1]), axis=1)
        yield from block[share >= threshold].tolist()
