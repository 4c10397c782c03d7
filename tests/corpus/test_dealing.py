"""Shards are even samples of a corpus with any files. The tests need no text, only sizes, up to gigabytes."""

from helpers import epoch_groups
import numpy as np
import pytest
import tensorflow as tf

from bert_tpu.corpus import dealing, store
from bert_tpu.data import host_share, sampler

SENTENCE = 25  # tokens
TARGETS = (29, 125, 509)  # of rows of 32, 128 and 512 tokens
RNG = np.random.default_rng(0)
PIECE = 900_000  # tokens of the pieces into which sources.py cuts a long document


def documents(sizes):
    """Returns (tokens, origins) of documents of these sizes; documents longer than PIECE come as pieces."""
    pieces = [[min(PIECE, size - start) for start in range(0, size, PIECE)] for size in sizes]
    return np.concatenate(pieces), np.repeat(np.arange(len(sizes)), list(map(len, pieces)))


def dealt(tokens, origins, copies=None):
    """Returns (Items, shard of each, number of shards) for documents whose sentences have SENTENCE tokens."""
    tokens = np.maximum(tokens // SENTENCE, 1) * SENTENCE
    copies = np.ones(len(tokens), np.int64) if copies is None else copies
    items = dealing.cut(tokens, tokens // SENTENCE, copies, lambda i: np.full(tokens[i] // SENTENCE, SENTENCE))
    np.testing.assert_array_equal(np.bincount(items.document, items.tokens, len(tokens)), tokens * copies)
    return items, *dealing.deal(items, origins)


def infos(items, shard, shards, origins):
    of_shards = [dealing.Items(*(column[shard == i] for column in items)) for i in range(shards)]
    texts = [len(np.unique(origins[each.document])) for each in of_shards]
    return [
        store.ShardInfo("", "", 0, len(each.document), number, 0, int(each.tokens.sum()))
        for each, number in zip(of_shards, texts, strict=True)
    ]


def rows_of(items, target):
    """Returns the average rows of each item in an epoch: 4 for 3 chunks of several sentences, else 1 a chunk."""
    chunks = -(-items.tokens // target)
    return np.where(items.sentences > 1, chunks * 4 / 3, 1)


NAMES = {
    "one file of many articles": RNG.integers(100, 3_000, 30_000),
    "one file of 1 GB in one document": [220_000_000],
    "one file of 20 MB in one document, with a little text": [4_500_000, *[300] * 40],
    "3 files": [600_000, 250_000, 40_000],
    "40 files of 280 KB": [62_000] * 40,
    "65 files of about 300 KB": RNG.integers(50_000, 80_000, 65),
    "1,000 files from 1 KB to 3 MB": np.exp(RNG.uniform(np.log(220), np.log(660_000), 1_000)).astype(int),
    "1,000 files of 1 KB and one of 1 GB": [*[220] * 1_000, 220_000_000],
    "novels, then tweets": [*[150_000] * 100, *[20] * 500_000],
    "novels among tweets": [size for _ in range(100) for size in (150_000, *[20] * 5_000)],
    "11 novels": [75_000] * 11,
    "two short texts": [30, 50],
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [256, 96, 7])
def test_no_text_comes_a_tenth_more_often_than_another(name, batch):
    tokens, origins = documents(NAMES[name])
    items, shard, shards = dealt(tokens, origins)
    groups = host_share.deal(infos(items, shard, shards, origins), batch)
    group = shard // (shards // len(groups))
    for target in TARGETS:
        rows = np.bincount(group, rows_of(items, target), len(groups))
        assert rows.max() <= 1.1 * rows.min(), (len(groups), target)
    if len(groups) > 1:
        counts = [len(np.unique(origins[items.document[group == i]])) for i in range(len(groups))]
        assert min(counts) >= dealing.ORIGINS


@pytest.mark.parametrize(("tokens", "shards"), [
    (1, 1), (2**18 - 1, 1), (2**18, 2), (2**23 - 1, 32), (2**23, 64), (2**29 - 1, 64), (2**29, 128), (2**40, 256),
])  # fmt: skip
def test_the_shards_of_a_large_corpus_serve_64_hosts_and_a_little_text_stays_together(tokens, shards):
    assert dealing.shard_count(tokens) == shards


def test_copies_and_pieces_are_dealt_apart_and_know_their_origin():
    tokens, origins = documents([4_500_000, *[20_000] * 300])  # 20 MB in one document
    copies = np.full(len(tokens), 2)
    items, shard, shards = dealt(tokens, origins, copies)
    assert shards == 64
    assert items.tokens.max() <= int(tokens.sum()) * 2 / shards / dealing.SHARE + SENTENCE
    of_text = origins[items.document] == 0
    assert len(np.unique(shard[of_text])) == shards  # the long text is in each shard
    assert (np.bincount(shard[of_text]) < np.bincount(shard) / 2).all()


def test_the_share_of_a_source_in_a_batch_is_that_of_a_shuffle():
    # 40 MB: chapters of novels, then articles, in the order of the input.
    sizes = np.concatenate([RNG.integers(2_000, 8_000, 700), np.exp(RNG.normal(6.2, 1, 8_000)).astype(int)])
    items, shard, shards = dealt(*documents(sizes))
    groups = 64
    assert shards == groups
    chunks = -(-items.tokens // 125)
    of_chunk = np.repeat(np.arange(len(chunks)), chunks)
    is_novel, group = items.document[of_chunk] < 700, shard[of_chunk]
    by_group = [is_novel[group == i] for i in range(groups)]
    sizes = sampler.GroupSizes(np.array([len(each) for each in by_group]), np.zeros(groups, np.int64))
    of_rows = epoch_groups.epoch_order(sizes.rows, groups=groups)
    drawn = tf.function(lambda n: sampler.chunk_visits(of_rows, sizes, n).chunk)
    shares = []
    for n in range(400):
        chunk = drawn(tf.constant(n, tf.int64)).numpy()
        shares.append(np.mean([by_group[g][i] for g, i in zip(of_rows.group, chunk, strict=True)]))
    p, shares = is_novel.mean(), np.array(shares)
    assert abs(shares.mean() - p) < 4 * (p * (1 - p) / epoch_groups.BATCH / len(shares)) ** 0.5
    # 400 batches give the variance to 7%.
    assert 0.75 < shares.var() / (p * (1 - p) / epoch_groups.BATCH) < 1.25
    assert abs(np.corrcoef(shares[:-1], shares[1:])[0, 1]) < 4 / len(shares) ** 0.5
