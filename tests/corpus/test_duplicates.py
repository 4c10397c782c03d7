"""Similar documents are detected in any parts, and other documents are not."""

import collections
import itertools

import numpy as np
import pytest

from bert_tpu.corpus import duplicates, selection, store


def shard(rows):
    lengths = np.array(list(map(len, rows)), np.uint32)
    ones = np.ones(len(rows), np.uint32)
    return store.Shard(np.concatenate(rows).astype(np.uint16), lengths, ones, ones)


def jaccard(one, other):
    runs = [{tuple(row[i : i + duplicates.RUN]) for i in range(len(row) - duplicates.RUN + 1)} for row in (one, other)]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


def similar(rows, sizes, threshold, order=None):
    """Calls duplicates.similar for rows that are spread over parts of these sizes."""
    sketches = []
    left = iter(rows)
    for size in sizes:
        part = shard(list(itertools.islice(left, size)))
        sketches.append(duplicates.sketches(part, duplicates.hashes(part)))
    bands = [duplicates.bands(of_part) for of_part in sketches]
    return duplicates.similar(
        [len(of_part) for of_part in sketches], lambda part, band: bands[part][band], sketches.__getitem__, threshold,
        np.arange(len(rows)) if order is None else order,
    )  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    """Pairs of documents: each second one is a copy of the one before it, with 0 to 5% of the tokens changed."""
    draw = np.random.default_rng(0)
    documents = []
    for pair in range(60):
        one = draw.integers(0, 5000, draw.integers(150, 400))
        other = one.copy()
        places = draw.choice(len(one), len(one) * (pair % 6) // 100, replace=False)
        other[places] = draw.integers(0, 5000, len(places))
        documents += [one, other]
    return documents


def test_a_sketch_estimates_jaccard_s_similarity(rows):
    whole = shard(rows)
    sketches = duplicates.sketches(whole, duplicates.hashes(whole))
    estimates = np.mean(sketches[::2] == sketches[1::2], axis=1)
    errors = [e - jaccard(rows[2 * i], rows[2 * i + 1]) for i, e in enumerate(estimates)]
    assert abs(np.mean(errors)) < 0.02
    assert np.std(errors) < 2 * np.sqrt(0.25 / duplicates.PERMUTATIONS)


def test_the_later_of_two_similar_documents_is_marked(rows):
    near = [jaccard(rows[i], rows[i + 1]) for i in range(0, len(rows), 2)]
    is_similar = similar(rows, [50, 7, 63], 0.8)
    assert not is_similar[::2].any()
    for value, hit in zip(near, is_similar[1::2], strict=True):
        if value > 0.92:
            assert hit
        if value < 0.65:
            assert not hit
    assert 0.2 < is_similar[1::2].mean() < 0.8  # both cases occur


def test_the_answer_does_not_depend_on_the_parts(rows):
    first = similar(rows, [120], 0.8)
    assert np.array_equal(first, similar(rows, [1, 40, 40, 39], 0.8))


def test_the_answer_does_not_depend_on_the_blocks(rows, monkeypatch):
    first = similar(rows, [1, 40, 40, 39], 0.8)
    for name, size in {"SKETCHED": 7, "COMPARED": 3, "BLOCK": 5}.items():
        monkeypatch.setattr(duplicates, name, size)
    assert np.array_equal(first, similar(rows, [1, 40, 40, 39], 0.8))


def test_a_part_of_many_is_loaded_a_few_times():
    """A fifth of the documents are copies of others, in any part."""
    parts, size, loads = 300, 200, collections.Counter()
    draw = np.random.default_rng(0)
    numbers = np.arange(parts * size)
    copies = draw.random(len(numbers)) < 0.2
    numbers[copies] = draw.integers(0, len(numbers), copies.sum())

    def load(part):
        loads[part] += 1
        return np.tile(numbers[part * size : (part + 1) * size, None].astype(np.uint32), duplicates.PERMUTATIONS)

    def load_band(part, band):
        return numbers[part * size : (part + 1) * size].astype(np.uint64) * 31 + np.uint64(band)

    is_similar = duplicates.similar(np.full(parts, size), load_band, load, 0.8, np.arange(len(numbers)))
    assert is_similar.sum() == len(numbers) - len(np.unique(numbers))
    assert max(loads.values()) == 1  # of what is similar in the first band, nothing is compared again


def test_all_equal_documents_but_the_first_are_marked():
    rows = [np.arange(n % 3 + 1) for n in range(9)]
    hashes = duplicates.hashes(shard(rows))
    assert duplicates.equal(hashes, np.arange(9)).tolist() == [False] * 3 + [True] * 6
    assert duplicates.equal(hashes, np.arange(9)[::-1]).tolist() == [True] * 6 + [False] * 3


def test_the_first_in_the_order_stays(rows):
    order = np.argsort(np.arange(len(rows)) % 2 == 0, kind="stable")  # the copies, and then the originals
    swapped = similar(rows, [50, 7, 63], 0.8, order)
    assert not swapped[1::2].any()
    np.testing.assert_array_equal(swapped[::2], similar(rows, [120], 0.8)[1::2])


def test_documents_shorter_than_a_run_are_similar_only_when_equal():
    rows = [np.array(row) for row in ([1, 2], [1, 3], [1, 2], [1], [2, 1, 4, 4])]
    assert similar(rows, [5], 0.8).tolist() == [False, False, True, False, False]


def test_nothing_is_similar_to_nothing():
    none = store.Shard(np.empty(0, np.uint16), *[np.empty(0, np.uint32)] * 3)
    assert duplicates.hashes(none).shape == (0,)
    assert duplicates.sketches(none, duplicates.hashes(none)).shape == (0, duplicates.PERMUTATIONS)
    assert selection.documents(none, np.empty(0, np.int64)).tokens.shape == (0,)
