"""Cuts documents into chunks: runs of sentences of one document that fill a row.

create_pretraining_data.py adds sentences until the target length is reached, and so does `cut`. Where a chunk is
split, and whether its B is random, is drawn again in each epoch (sampler.py). Named departures: the original begins
its next chunk with the sentences that a random B replaces, and here they are A of another row; and short targets are
drawn once, by a chunk's place. So the chunks are fixed, and a batch is a function of seed and step.
"""

from typing import NamedTuple

import numpy as np

from bert_tpu.core import aligned, hashing
from bert_tpu.corpus import store


class Text(NamedTuple):
    """Tokens with their boundaries: S sentences, D documents."""

    tokens: np.ndarray  # uint16
    sentence_start: np.ndarray  # int64 [S + 1], in tokens
    document_start: np.ndarray  # int64 [D + 1], in sentences
    origins: np.ndarray  # uint32 [D], the number of the text that a document comes from


class Chunks(NamedTuple):
    """N runs of sentences, in the text's order; int64 [N] each."""

    first: np.ndarray  # in sentences
    last: np.ndarray  # one past the chunk's last sentence
    document: np.ndarray
    target: np.ndarray  # tokens of A and B that were aimed at


def make_text(shard: store.Shard) -> Text:
    """Turns a shard's lengths into positions."""
    return Text(shard.tokens, _starts(shard.sentences), _starts(shard.documents), shard.origins)


def cut(text: Text, *, target: int, short_prob: float = 0.0, documents: np.ndarray | None = None) -> Chunks:
    """Cuts documents into chunks of at least `target` tokens; the last of a document may be shorter.

    Every sentence is in exactly one chunk. All documents advance together, a chunk a round, so that a billion tokens
    take seconds.

    short_prob: share of chunks that have a shorter target, chosen by `targets`
    documents: numbers of those to cut, in ascending order; None: all
    """
    cursor, ends = text.document_start[:-1].copy(), text.document_start[1:]
    active = np.arange(len(ends)) if documents is None else documents
    rounds = []
    while active.size:
        first = cursor[active]
        aims = targets(text, active, first, target, short_prob)
        full = np.searchsorted(text.sentence_start, text.sentence_start[first] + aims, side="left")
        last = np.minimum(full, ends[active])
        rounds.append((first, last, active, aims))
        cursor[active] = last
        active = active[last < ends[active]]
    columns = [np.concatenate(column) for column in zip(*rounds, strict=True)]
    order = np.argsort(columns[0])
    return Chunks(*(column[order] for column in columns))


def targets(text: Text, document: np.ndarray, first: np.ndarray, most: int, short_prob: float) -> np.ndarray:
    """Returns the target of each chunk in tokens, int64 [N]: `most`, or shorter, from 2 tokens up.

    The document's origin and length and the chunk's place in it decide. So a target is the same on any number of
    hosts, and documents that begin alike, as forms do, have draws of their own.

    document, first: int64 [N], the document and the first sentence of each chunk
    most: tokens of the usual target
    short_prob: share of chunks with a shorter one
    """
    if not short_prob:
        return np.full(len(first), most)
    start, end = text.document_start[document], text.document_start[document + 1]
    size = text.sentence_start[end] - text.sentence_start[start]  # which tells pieces of one origin apart
    facts = np.stack([text.origins[document], size, first - start], axis=1).astype(np.uint64)
    hashes = hashing.hash_runs(facts.ravel(), np.arange(len(facts)) * facts.shape[1], facts.shape[1])
    short = 2 + (hashes & np.uint64(0xFFFFFFFF)).astype(np.int64) % (most - 1)
    return np.where((hashes >> np.uint64(32)) < short_prob * 2.0**32, short, most)


def _starts(lengths: np.ndarray) -> np.ndarray:
    starts = aligned.empty(len(lengths) + 1, np.int64)
    starts[0] = 0
    np.cumsum(lengths, out=starts[1:])
    return starts
