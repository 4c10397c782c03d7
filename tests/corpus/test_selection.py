"""Documents and sentences picked out of arrays equal those picked out of lists."""

import hypothesis
from hypothesis import strategies
import numpy as np

from bert_tpu.core import hashing
from bert_tpu.corpus import selection, store

SENTENCE = strategies.lists(strategies.integers(0, 9), min_size=1, max_size=6)
DOCUMENTS = strategies.lists(strategies.lists(SENTENCE, min_size=1, max_size=4), max_size=6)


def shard(documents, origins=None):
    sentences = [sentence for document in documents for sentence in document]
    return store.Shard(
        np.array([token for sentence in sentences for token in sentence], np.uint16),
        np.array(list(map(len, sentences)), np.uint32),
        np.array(list(map(len, documents)), np.uint32),
        np.array(range(len(documents)) if origins is None else origins, np.uint32),
    )


def equal(one, other):
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))


@hypothesis.given(DOCUMENTS, strategies.data())
def test_documents_come_as_often_and_in_the_order_asked_for(documents, data):
    chosen = data.draw(strategies.lists(strategies.integers(0, len(documents) - 1))) if documents else []
    result = selection.documents(shard(documents), np.array(chosen, np.int64))
    assert equal(result, shard([documents[i] for i in chosen], chosen))
    lengths = selection.tokens_per_document(shard(documents).sentences, shard(documents).documents)
    assert lengths.tolist() == [sum(map(len, document)) for document in documents]


@hypothesis.given(DOCUMENTS, strategies.randoms(use_true_random=False))
def test_documents_without_sentences_are_removed(documents, draw):
    kept = [[draw.random() < 0.5 for _ in document] for document in documents]
    result, left = selection.sentences(
        shard(documents), np.array([k for of_document in kept for k in of_document], bool)
    )
    expected = [
        [sentence for sentence, k in zip(document, of_document, strict=True) if k]
        for document, of_document in zip(documents, kept, strict=True)
    ]
    assert equal(result, shard([document for document in expected if document], left))
    assert left.tolist() == [i for i, document in enumerate(expected) if document]


@hypothesis.given(DOCUMENTS, strategies.integers(1, 5))
def test_runs_are_inside_their_rows_and_only_equal_runs_have_equal_hashes(documents, width):
    rows = [sentence for document in documents for sentence in document]
    hashes, owner = hashing.hash_windows(shard(documents).tokens, shard(documents).sentences, width)
    runs = [(i, tuple(row[a : a + width])) for i, row in enumerate(rows) for a in range(len(row) - width + 1)]
    assert owner.tolist() == [i for i, _ in runs]
    by_run = {}
    for (_, run), value in zip(runs, hashes.tolist(), strict=True):
        assert by_run.setdefault(run, value) == value
    assert len(set(by_run.values())) == len(by_run)
