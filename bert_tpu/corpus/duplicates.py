"""Detects duplicates: equal documents by a hash of their tokens, similar documents by MinHash.

A sketch estimates the Jaccard similarity of two documents' sets of five-token runs (Broder 1997). Documents whose
sketches agree in one of BANDS bands are compared (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4). The
bands detect 95 of 100 pairs with a similarity of 0.8, and all pairs with 0.9.
"""

from collections.abc import Callable, Sequence
import hashlib

import numpy as np

from bert_tpu.core import hashing, progress
from bert_tpu.corpus import selection, store

RUN = 5  # tokens
PERMUTATIONS, BANDS = 128, 16
SEED = 0
BLOCK = 1 << 20  # pairs whose sketches are in memory together: up to 1 GiB
COMPARED = 1 << 16  # pairs of a block that one call of NumPy compares
SKETCHED = 4096  # documents that one call of the library sketches


def hashes(shard: store.Shard) -> np.ndarray:
    """Returns a hash of each document's tokens, uint64 [D]."""
    raw, lengths = shard.tokens.tobytes(), 2 * selection.tokens_per_document(shard.sentences, shard.documents)
    ends = np.cumsum(lengths)
    digests = (hashlib.blake2b(raw[a:b], digest_size=8).digest() for a, b in zip(ends - lengths, ends, strict=True))
    return np.frombuffer(b"".join(digests), ">u8").astype(np.uint64)


def sketches(shard: store.Shard, token_hashes: np.ndarray) -> np.ndarray:
    """Returns the documents' sketches, uint32 [D, PERMUTATIONS].

    token_hashes: the result of `hashes`, [D]. It is the only member of the set of a document shorter than RUN.
    """
    import rensa  # here, because only the processes that write sketches need it

    lengths = selection.tokens_per_document(shard.sentences, shard.documents)
    run_hashes, rows = hashing.hash_windows(shard.tokens, lengths, RUN)
    short = np.flatnonzero(lengths < RUN)
    order = np.argsort(np.concatenate([rows, short]), kind="stable")
    flat = np.concatenate([run_hashes, token_hashes[short]])[order]
    bounds = np.concatenate([[0], np.cumsum(np.maximum(lengths - RUN + 1, 1))]).astype(np.uint64)
    if not len(lengths):
        return np.empty((0, PERMUTATIONS), np.uint32)
    result = np.empty((len(lengths), PERMUTATIONS), np.uint32)
    for first in range(0, len(lengths), SKETCHED):  # the library's rows are Python lists, of 5 KB each
        of_block = bounds[first : first + SKETCHED + 1]
        hashes_of_block, starts = flat[of_block[0] : of_block[-1]], of_block - of_block[0]
        matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(hashes_of_block, starts, PERMUTATIONS, SEED)
        result[first : first + SKETCHED] = matrix.to_rows()
    return result


def bands(sketches: np.ndarray) -> np.ndarray:
    """Returns a hash of each band of each sketch, uint64 [BANDS, D]."""
    rows = PERMUTATIONS // BANDS
    flat = np.ascontiguousarray(sketches, np.uint64).ravel()
    starts = np.arange(len(sketches)) * PERMUTATIONS
    return np.stack([hashing.hash_runs(flat, starts + band * rows, rows) for band in range(BANDS)])


def equal(token_hashes: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Returns for each document whether an earlier one has the same hash, bool [N].

    token_hashes: of all documents, uint64 [N].
    order: the numbers of all documents, [N]; of equal ones the first in it stays.
    """
    _, first = np.unique(token_hashes[order], return_index=True)
    is_repeated = np.ones(len(token_hashes), bool)
    is_repeated[order[first]] = False
    return is_repeated


def similar(
    sizes: Sequence[int] | np.ndarray,
    load_band: Callable[[int, int], np.ndarray],
    load_sketches: Callable[[int], np.ndarray],
    threshold: float,
    order: np.ndarray,
) -> np.ndarray:
    """Returns for each document whether it is similar to an earlier one, directly or through other documents, bool [N].

    sizes: number of documents of each part.
    load_band: (part, band) -> row `band` of the part's `bands`.
    load_sketches: part -> the part's `sketches`.
    threshold: estimated similarity from which on two documents are similar.
    order: the numbers of all documents, [N]; of similar ones the first in it stays.

    Needs the memory of one band of all documents and of the sketches of BLOCK pairs. A part's sketches are loaded once
    for each block that needs them. Most similar documents meet in the first band, and are not compared again.
    """
    bounds = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    earlier = np.arange(bounds[-1])  # a tree: each document points to an earlier one that is similar, or to itself

    def root(document: int) -> int:
        while earlier[document] != document:
            earlier[document] = earlier[earlier[document]]
            document = earlier[document]
        return document

    with progress.bar(BANDS * len(sizes), "similar documents", unit="part") as bar:
        for band in range(BANDS):
            of_all = [np.empty(0, np.uint64)]
            for part in range(len(sizes)):
                of_all.append(load_band(part, band))
                bar.update()
            pairs = _candidates(np.concatenate(of_all))
            for start in range(0, len(pairs), BLOCK):
                block = [pair for pair in pairs[start : start + BLOCK].tolist() if root(pair[0]) != root(pair[1])]
                for one, other in _similar_pairs(np.array(block, np.int64), bounds, load_sketches, threshold):
                    first, later = sorted((root(one), root(other)), key=rank.__getitem__)
                    earlier[later] = first
    return earlier != np.arange(bounds[-1])


def _candidates(band_hashes: np.ndarray) -> np.ndarray:
    """Returns pairs of document numbers, [P, 2]: each document with the last earlier one that has the same hash."""
    order = np.argsort(band_hashes, kind="stable")
    same = np.flatnonzero(band_hashes[order][1:] == band_hashes[order][:-1])
    return np.stack([order[same], order[same + 1]], axis=1)


def _similar_pairs(
    pairs: np.ndarray, bounds: np.ndarray, load_sketches: Callable[[int], np.ndarray], threshold: float
) -> list[list[int]]:
    """Returns the pairs whose sketches agree in a share of at least `threshold`.

    pairs: document numbers, [P, 2].
    bounds: number of the first document of each part, and of all documents.
    """
    documents, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(-1, 2)
    sketches = np.empty((len(documents), PERMUTATIONS), np.uint32)
    edges = np.searchsorted(documents, bounds)
    for part in np.flatnonzero(np.diff(edges)):
        own = slice(edges[part], edges[part + 1])
        sketches[own] = load_sketches(int(part))[documents[own] - bounds[part]]
    similar: list[list[int]] = []
    for start in range(0, len(pairs), COMPARED):
        one, other = places[start : start + COMPARED].T
        share = np.mean(sketches[one] == sketches[other], axis=1)
        similar += pairs[start : start + COMPARED][share >= threshold].tolist()
    return similar
