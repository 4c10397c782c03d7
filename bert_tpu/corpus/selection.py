"""Sentences and documents picked out of a shard."""

import numpy as np

from bert_tpu.corpus import store


def documents(shard, chosen) -> store.Shard:
    """The documents of these numbers, in this order; one may come twice."""
    per_document = tokens_of(shard)
    return store.Shard(
        tokens=_rows(shard.tokens, per_document, chosen),
        sentences=_rows(shard.sentences, shard.documents, chosen),
        documents=shard.documents[chosen],
        origins=shard.origins[chosen],
    )


def sentences(shard, kept) -> tuple[store.Shard, np.ndarray]:
    """The sentences where `kept` holds, and the numbers of the documents that still have one."""
    owner = np.repeat(np.arange(len(shard.documents)), shard.documents)
    counts = np.bincount(owner[kept], minlength=len(shard.documents))
    left = np.flatnonzero(counts)
    tokens = shard.tokens[np.repeat(kept, shard.sentences)]
    return store.Shard(tokens, shard.sentences[kept], counts[left].astype(np.uint32), shard.origins[left]), left


def tokens_of(shard) -> np.ndarray:
    """The tokens of each document."""
    ends = np.cumsum(shard.sentences, dtype=np.int64)[np.cumsum(shard.documents, dtype=np.int64) - 1]
    return np.diff(ends, prepend=0)


def _rows(values, lengths, chosen):
    """Of consecutive rows of `lengths` values those that are chosen, one after the other."""
    if (np.diff(chosen) > 0).all():  # none twice, all in order: a mask is an eighth of an index
        kept = np.zeros(len(lengths), bool)
        kept[chosen] = True
        return values[np.repeat(kept, lengths)]
    lengths = lengths.astype(np.int64)
    return spans(values, (np.cumsum(lengths) - lengths)[chosen], lengths[chosen])


def spans(values, starts, lengths) -> np.ndarray:
    """Runs of `values` from each of `starts` on, of these lengths, one after the other."""
    lengths = lengths.astype(np.int64)
    return values[np.repeat(starts - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())]
