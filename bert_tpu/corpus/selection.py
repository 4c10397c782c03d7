"""Picks documents and sentences out of a shard."""

import numpy as np

from bert_tpu.corpus import store


def documents(shard: store.Shard, chosen: np.ndarray) -> store.Shard:
    """Returns the documents with the numbers `chosen` [C], in this order; a number may come twice."""
    return store.Shard(
        tokens=_rows(shard.tokens, tokens_per_document(shard.sentences, shard.documents), chosen),
        sentences=_rows(shard.sentences, shard.documents, chosen),
        documents=shard.documents[chosen],
        origins=shard.origins[chosen],
    )


def sentences(shard: store.Shard, is_kept: np.ndarray) -> tuple[store.Shard, np.ndarray]:
    """Returns the sentences to keep, and the numbers of the documents that still have one.

    is_kept: bool [S].
    """
    owner = np.repeat(np.arange(len(shard.documents)), shard.documents)
    counts = np.bincount(owner[is_kept], minlength=len(shard.documents))
    left = np.flatnonzero(counts)
    tokens = shard.tokens[np.repeat(is_kept, shard.sentences)]
    return store.Shard(tokens, shard.sentences[is_kept], counts[left].astype(np.uint32), shard.origins[left]), left


def tokens_per_document(sentences: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """Returns the number of tokens of each document, [D], from a shard's `sentences` [S] and `documents` [D]."""
    ends = np.cumsum(sentences, dtype=np.int64)[np.cumsum(documents, dtype=np.int64) - 1]
    return np.diff(ends, prepend=0)


def _rows(values: np.ndarray, lengths: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Returns the chosen rows, joined. `values` consists of consecutive rows of these lengths."""
    if (np.diff(chosen) > 0).all():  # none twice, all in order: a mask needs an eighth of the memory of an index
        is_chosen = np.zeros(len(lengths), bool)
        is_chosen[chosen] = True
        return values[np.repeat(is_chosen, lengths)]
    lengths = lengths.astype(np.int64)
    return spans(values, (np.cumsum(lengths) - lengths)[chosen], lengths[chosen])


def spans(values: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns the spans of `values` that begin at `starts` [C] and have these lengths [C], joined."""
    lengths = lengths.astype(np.int64)
    return values[np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())]
