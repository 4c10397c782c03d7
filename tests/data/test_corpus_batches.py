"""Batches against the corpus they came from and the rules of create_pretraining_data.py.

The corpus is `placed_lock`: a token's id is its place, so that a row can be traced back.
"""

import collections
import itertools
import random
import time

from conftest import FIRST_PLACED
from helpers.placed_rows import BATCH, SEQ_LEN, SPEC, Row, document_of
import numpy as np
import pytest
import tensorflow as tf

from bert_tpu.core import command, hashing
from bert_tpu.corpus import store
from bert_tpu.data import chunks, corpus_batches, host_share, nsp_pairs, packing, sampler


@pytest.fixture(scope="module")
def share(placed_lock):
    return host_share.load(placed_lock, "train", batch_size=BATCH)


def stream(share, first, last, spec=SPEC, seq_len=SEQ_LEN):
    return corpus_batches.stream(share, corpus_batches.epoch_table(share, spec, seq_len), spec, seq_len, first, last)


@pytest.fixture(scope="module")
def rows(share):
    return [Row(batch, r) for batch in stream(share, 0, 300) for r in range(BATCH)]


def test_segments_are_runs_of_one_document_and_labels_are_true(rows, whole_text):
    for row in rows:
        assert len(row.a) >= 1
        assert len(row.b) >= 1
        assert len(row.a) + len(row.b) <= SEQ_LEN - 3
        for segment in (row.a, row.b):
            assert (np.diff(segment) == 1).all()
            assert document_of(whole_text, segment[0]) == document_of(whole_text, segment[-1])
        same = document_of(whole_text, row.a[0]) == document_of(whole_text, row.b[0])
        assert same == (row.label == 0)
        if row.label == 0:
            assert row.b[0] > row.a[-1]
            if row.length < SEQ_LEN:  # nothing was cut, so nothing lies between
                assert row.b[0] == row.a[-1] + 1


def test_uncut_segments_begin_and_end_at_sentences(rows, whole_text):
    starts = set(whole_text.sentence_start.tolist())
    for row in rows:
        if row.length < SEQ_LEN:
            assert {int(row.a[0]), int(row.a[-1]) + 1, int(row.b[0]), int(row.b[-1]) + 1} <= starts


def sentence_of(text, place):
    return int(np.searchsorted(text.sentence_start, place, side="right") - 1)


def test_half_of_the_rows_are_random_and_single_sentences_always(rows, whole_text):
    table = chunks.cut(whole_text, target=SEQ_LEN - 3, short_prob=SPEC.short_prob)
    single = {int(f) for f, end in zip(table.first, table.last, strict=True) if end - f == 1}
    labels = collections.defaultdict(list)
    for row in rows:
        labels[sentence_of(whole_text, row.a[0]) in single].append(row.label)
    assert all(labels[True])
    assert np.mean(labels[False]) == pytest.approx(0.5, abs=0.01)


def sentences_in_their_place(row, text):
    """Returns the sentences that a row shows whole or in part: those of A, and of B if B follows A."""
    segments = [row.a] if row.label else [row.a, row.b]
    return [s for segment in segments for s in range(sentence_of(text, segment[0]), sentence_of(text, segment[-1]) + 1)]


def test_each_sentence_comes_once_an_epoch_in_a_new_order(share, whole_text):
    """create_pretraining_data.py also shows each sentence once a pass, except those that it cuts away whole."""
    table = corpus_batches.chunk_table(share, SEQ_LEN, SPEC.short_prob)
    assert share.num_groups == 8
    rows_per_group = BATCH // share.num_groups
    rows_of = collections.defaultdict(list)
    for batch in stream(share, 0, 60):
        for r in range(BATCH):
            rows_of[r // rows_per_group].append(sentences_in_their_place(Row(batch, r), whole_text))
    starts = whole_text.document_start[share.document_start]  # the first sentence of each group
    for group, rows in rows_of.items():
        size = int(table.epoch_rows[group])
        epochs = [rows[i : i + size] for i in range(0, len(rows) - size + 1, size)]
        assert len(epochs) >= 2
        for epoch in epochs:
            counts = np.bincount([s for row in epoch for s in row], minlength=starts[-1])
            assert counts.max() == 1
            assert (np.flatnonzero(counts) >= starts[group]).all()
            assert (np.flatnonzero(counts) < starts[group + 1]).all()
            assert counts.sum() > 0.9 * (starts[group + 1] - starts[group])
        assert all(one != other for one, other in itertools.pairwise(epochs))


@pytest.fixture(scope="module")
def long_text():
    """400,000 tokens in 200 documents of sentences of 5 to 45 tokens."""
    rng = np.random.default_rng(0)
    sentences = rng.integers(5, 46, 16_000)
    documents = np.diff(np.sort(np.concatenate([[0, 16_000], rng.choice(np.arange(1, 16_000), 199, replace=False)])))
    return chunks.make_text(store.Shard(np.zeros(sentences.sum(), np.uint16), sentences, documents, np.arange(200)))


def coverage(text, *, epochs, max_tokens):
    """Returns how often an epoch shows each token in its own place, [tokens], the ChunkTable, and the pairs."""
    bounds = np.array([0, len(text.origins)])
    share = host_share.HostShare(
        range(BATCH), 1, 0, text, bounds, nsp_pairs.other_texts(text.origins, bounds), (), None
    )
    table = corpus_batches.chunk_table(share, SEQ_LEN, SPEC.short_prob)
    order = sampler.EpochOrder(share, SPEC, SEQ_LEN, table.epoch_rows)

    @tf.function
    def spans(n):
        visit = sampler.chunk_visits(order, table.sizes, n)
        chunk = chunks.Chunks(*(tf.gather(column, visit.chunk) for column in table.chunks))
        draws, _ = sampler.draws(SPEC, SEQ_LEN, 400, n, order.rows)
        return nsp_pairs.choose(text, chunk, visit, share.candidates(order.group), draws, max_tokens=max_tokens)

    size = int(table.epoch_rows[0]) * epochs
    rows = [[column.numpy() for column in spans(tf.constant(n, tf.int64))] for n in range(-(-size // BATCH))]
    pair = nsp_pairs.Pairs(*(np.concatenate(columns)[:size] for columns in zip(*rows, strict=True)))
    first = np.concatenate([pair.a_first, pair.b_first[~pair.is_random]])
    length = np.concatenate([pair.a_length, pair.b_length[~pair.is_random]])
    edges = np.bincount(first, minlength=len(text.tokens) + 1) - np.bincount(
        first + length, minlength=len(text.tokens) + 1
    )
    return np.cumsum(edges)[:-1] / epochs, table, pair


def test_an_epoch_without_truncation_shows_each_token_once_in_its_place(long_text):
    frequency, *_ = coverage(long_text, epochs=3, max_tokens=10_000)
    np.testing.assert_array_equal(frequency, 1)


def test_a_random_b_begins_at_any_sentence_of_any_document(long_text):
    *_, pair = coverage(long_text, epochs=3, max_tokens=10_000)
    sentence = np.searchsorted(long_text.sentence_start, pair.b_first[pair.is_random])
    document = np.searchsorted(long_text.document_start, sentence, side="right") - 1
    sentences = np.diff(long_text.document_start)[document]
    share = ((sentence - long_text.document_start[document] + 0.5) / sentences)[sentences >= 20]
    assert len(share) > 2000
    tenths = np.histogram(share, 10, (0, 1))[0] / len(share)
    np.testing.assert_allclose(tenths, 0.1, atol=5 * np.sqrt(0.09 / len(share)))
    assert abs(np.corrcoef(share, document[sentences >= 20])[0, 1]) < 4 / np.sqrt(len(share))


def originals_coverage(text, seed):
    """Counts how often each token is in its own place, by a transcription of create_instances_from_document's loop.

    https://github.com/google-research/bert/blob/master/create_pretraining_data.py
    """
    rng, frequency, most = random.Random(seed), np.zeros(len(text.tokens), np.int64), SEQ_LEN - 3
    lengths = np.diff(text.sentence_start)

    def cut(a, b):
        """Shortens the spans [a0, a1) and [b0, b1) until they fit."""
        a, b = list(a), list(b)
        while a[1] - a[0] + b[1] - b[0] > most:
            longer = a if a[1] - a[0] > b[1] - b[0] else b
            if rng.random() < 0.5:
                longer[0] += 1
            else:
                longer[1] -= 1
        return a, b

    for document in range(len(text.document_start) - 1):
        i, end = text.document_start[document : document + 2]
        while i < end:
            target = rng.randint(2, most) if rng.random() < SPEC.short_prob else most
            last = i
            while last < end and lengths[i:last].sum() < target:
                last += 1
            middle = i + (rng.randint(1, last - i - 1) if last - i > 1 else 1)
            is_random = last - i == 1 or rng.random() < 0.5
            a = text.sentence_start[[i, middle]]
            if is_random:  # B runs on to the end of a sentence
                b, i = (0, max(1, target - (a[1] - a[0])) + rng.randint(0, 25)), middle
            else:
                b, i = text.sentence_start[[middle, last]], last
            a, b = cut(a, b)
            frequency[a[0] : a[1]] += 1
            if not is_random:
                frequency[b[0] : b[1]] += 1
    return frequency


def test_all_of_a_chunk_is_shown_as_often_as_the_original_shows_it(long_text):
    frequency, table, _ = coverage(long_text, epochs=4, max_tokens=SEQ_LEN - 3)
    first, last = (long_text.sentence_start[x] for x in (table.chunks.first, table.chunks.last))
    is_full = (last - first >= SEQ_LEN - 3) & (table.chunks.last - table.chunks.first > 1)
    before = np.concatenate([[0], np.cumsum(frequency)])
    edges = first[is_full, None] + (last - first)[is_full, None] * np.arange(11) // 10
    tenths = np.diff(before[edges], axis=1).sum(axis=0) / np.diff(edges, axis=1).sum(axis=0)
    # Tokens are cut at the ends of A and B, as in the original. All tokens between come equally often.
    assert tenths[1:9].max() - tenths[1:9].min() < 0.05
    assert tenths.min() > 0.6
    original = np.mean([originals_coverage(long_text, seed) for seed in range(2)], axis=0)
    assert frequency.mean() == pytest.approx(original.mean(), abs=0.02)
    assert (frequency == 0).mean() < 0.02  # in four epochs


@pytest.mark.parametrize("packed", [0, 1])
@pytest.mark.parametrize("weight", [1, 2, 5])
def test_a_random_b_is_of_another_text_where_copies_and_pieces_are_documents(placed_lock, whole_text, weight, packed):
    """Each origin has `weight` documents."""
    origins = np.arange(len(whole_text.origins)) // weight
    text = whole_text._replace(origins=origins.astype(np.uint32))
    share = host_share.load(placed_lock, "train", batch_size=BATCH, packed_rows=packed * BATCH)
    share = share._replace(text=text, other_texts=nsp_pairs.other_texts(origins, share.document_start))
    spec = SPEC._replace(packed_rows=packed * BATCH, packed_examples=4, seq_lens=(SEQ_LEN,), max_predictions=(20,))
    drawn = collections.Counter()
    for batch in stream(share, 0, 40, spec):
        alone = packing.unpack(batch) if packed else batch
        for r in range(len(alone["input_ids"])):
            row = Row(alone, r)
            own, other = (document_of(whole_text, segment[0]) for segment in (row.a, row.b))
            assert (origins[own] == origins[other]) == (row.label == 0)
            if row.label:
                drawn[other] += 1
    assert len(drawn) > 0.95 * len(origins)  # every other document is drawn at some time


def test_every_sentence_is_in_exactly_one_chunk_that_reaches_the_target(whole_text):
    for target in (5, 125, 509):
        table = chunks.cut(whole_text, target=target)
        assert table.first[0] == 0
        assert table.last[-1] == len(whole_text.sentence_start) - 1
        assert (table.first[1:] == table.last[:-1]).all()
        for first, last, document, aim in zip(*table, strict=True):
            assert aim == target
            tokens = np.diff(whole_text.sentence_start[first : last + 1])
            ends = last == whole_text.document_start[document + 1]
            assert ends or tokens.sum() >= target
            assert tokens[:-1].sum() < target  # without its last sentence it would not reach


def test_other_texts_are_the_documents_of_the_group_without_those_of_the_same_text():
    origins, bounds = np.array([5, 3, 5, 3, 3, 9, 5, 9]), np.array([0, 5, 8])
    others = nsp_pairs.other_texts(origins, bounds)
    for document, origin in enumerate(origins):
        low, high = (0, 5) if document < 5 else (5, 8)
        first, count = others.own_first[document], others.own_count[document]
        members = others.order[low:high].tolist()
        assert sorted(members) == list(range(low, high))
        own = members[first : first + count]
        assert sorted(own) == [d for d in range(low, high) if origins[d] == origin]


def test_targets_are_short_in_a_tenth_of_the_chunks_also_if_documents_begin_alike(long_text):
    assert not long_text.tokens.any()
    target = chunks.cut(long_text, target=SEQ_LEN - 3, short_prob=0.1).target
    is_short = target < SEQ_LEN - 3
    share = 0.1 * 123 / 124  # of 2 .. 125 tokens one is the full length
    assert abs(is_short.mean() - share) < 4 * (share * (1 - share) / len(target)) ** 0.5
    assert target.min() >= 2
    middle, deviation = (2 + 124) / 2, 123 / 12**0.5
    assert abs(target[is_short].mean() - middle) < 4 * deviation / is_short.sum() ** 0.5
    assert (chunks.cut(long_text, target=SEQ_LEN - 3).target == SEQ_LEN - 3).all()


def test_a_group_has_the_same_chunks_whatever_its_host_holds_next_to_it(placed_lock):
    infos = placed_lock.splits["train"]
    shards = [chunks.make_text(store.load(placed_lock, [info])) for info in infos]
    for target in range(20, 120):  # many, because few chunks begin near the end of a shard
        whole = chunks.cut(chunks.make_text(store.load(placed_lock, infos)), target=target, short_prob=0.5)
        alone = [chunks.cut(shard, target=target, short_prob=0.5).target for shard in shards]
        np.testing.assert_array_equal(whole.target, np.concatenate(alone))


def test_a_batch_is_a_function_of_seed_and_number(share):
    hashes = [hashing.batch_sha256(batch) for batch in stream(share, 0, 6)]
    assert len(set(hashes)) == 6
    assert [hashing.batch_sha256(batch) for batch in stream(share, 4, 6)] == hashes[4:]
    assert hashing.batch_sha256(next(stream(share, 0, 1, SPEC._replace(seed=4)))) != hashes[0]


@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_the_global_batch_is_the_same_for_any_number_of_hosts(placed_lock, share, hosts):
    whole = list(stream(share, 7, 9))
    shares = [
        host_share.load(placed_lock, "train", batch_size=BATCH, process_index=i, process_count=hosts)
        for i in range(hosts)
    ]
    parts = [list(stream(part, 7, 9)) for part in shares]
    for n, batch in enumerate(whole):
        joined = {name: np.concatenate([part[n][name] for part in parts]) for name in batch}
        assert hashing.batch_sha256(joined) == hashing.batch_sha256(batch)
    # Each host loads its part of the corpus and no more.
    assert sum(len(part.text.tokens) for part in shares) == len(share.text.tokens)


def test_seeking_to_step_one_million_takes_no_longer_than_to_step_one(share):
    def seconds(first):
        start = time.perf_counter()
        next(stream(share, first, first + 2))
        return time.perf_counter() - start

    near, far = (min(seconds(first) for _ in range(2)) for first in (1, 1_000_000))
    assert far < 3 * near  # walking there would take minutes


def hidden(batches):
    """Returns (the pieces that are seen at the hidden places, the true pieces)."""
    batches = list(batches)
    used = np.concatenate([batch["masked_ids"] > 0 for batch in batches])
    seen = [np.take_along_axis(batch["input_ids"], batch["masked_positions"], axis=1) for batch in batches]
    return np.concatenate(seen)[used], np.concatenate([batch["masked_ids"] for batch in batches])[used]


def test_four_fifths_of_the_hidden_pieces_are_masks_and_replacements_are_of_the_whole_vocabulary(share):
    seen, true = hidden(stream(share, 0, 60))
    is_mask = seen == share.pieces.index("[MASK]")
    assert is_mask.mean() == pytest.approx(0.8, abs=5 * np.sqrt(0.16 / len(seen)))
    replacements = seen[~is_mask & (seen != true)]
    tenths = np.histogram(replacements, 10, (0, len(share.pieces)))[0] / len(replacements)
    np.testing.assert_allclose(tenths, 0.1, atol=5 * np.sqrt(0.09 / len(replacements)))


def test_words_are_hidden_whole_if_the_config_says_so(share):
    is_continuation = np.array([piece.startswith("##") for piece in share.pieces])
    words = 0
    for batch in stream(share, 0, 4, SPEC._replace(whole_word=True)):
        for r in range(BATCH):
            true = {int(place) - FIRST_PLACED for place in batch["masked_ids"][r] if place}
            row = Row(batch, r)
            for segment in (row.a, row.b):
                starts = np.flatnonzero(~is_continuation[segment + FIRST_PLACED] | (segment == segment[0]))
                for word in np.split(segment, starts[1:]):
                    assert true.issuperset(word) or true.isdisjoint(word)
                    words += len(word) > 1 and true.issuperset(word)
    assert words > 100


def test_masks_differ_between_epochs_of_the_same_chunk(share):
    rows = int(corpus_batches.chunk_table(share, SEQ_LEN, SPEC.short_prob).epoch_rows.max())
    epoch = rows * share.num_groups // BATCH + 1
    masks_of = collections.defaultdict(list)
    for batch in stream(share, 0, 2 * epoch):
        for r in range(BATCH):
            row = Row(batch, r)
            key = row.a[0], row.a[-1], row.b[0], row.b[-1]
            masks_of[key].append(tuple(batch["masked_positions"][r][batch["masked_ids"][r] > 0]))
    twice = [masks for masks in masks_of.values() if len(masks) > 1 and len(masks[0]) > 3]
    assert len(twice) > 10
    assert all(masks[0] != masks[1] for masks in twice)


@pytest.mark.parametrize("schedule", ["phased", "mixed"])
def test_training_follows_the_schedule_and_resumes_anywhere(share, schedule):
    spec = SPEC._replace(schedule=schedule, num_steps=40)
    whole = [(n, hashing.batch_sha256(batch)) for n, batch in corpus_batches.train(share, spec, 0)]
    long = [step for step, (n, _) in enumerate(whole) if n == 512]
    assert long == ([36, 37, 38, 39] if schedule == "phased" else [9, 19, 29, 39])
    for first in (9, 10, 38):
        assert [(n, hashing.batch_sha256(batch)) for n, batch in corpus_batches.train(share, spec, first)] == whole[
            first:
        ]


def test_heldout_batches_are_the_same_for_every_seed(placed_lock):
    share = host_share.load(placed_lock, "heldout", batch_size=BATCH)

    def hashes(seed):
        return [hashing.batch_sha256(b) for _, b in corpus_batches.heldout(share, SPEC._replace(seed=seed), 2)]

    assert hashes(0) == hashes(1)
    assert len(set(hashes(0))) == 4  # two batches for each of two lengths
    spec = SPEC._replace(seed=corpus_batches.HELDOUT_SEED)
    assert hashes(0) == [hashing.batch_sha256(b) for n in (128, 512) for b in stream(share, 0, 2, spec, n)]


def test_a_corpus_too_small_for_a_batch_is_refused(placed_lock):
    spec = SPEC._replace(batch_size=4096)
    share = host_share.load(placed_lock, "train", batch_size=4096)
    with pytest.raises(command.UserError, match="too small for one batch"):
        corpus_batches.train(share, spec, 0)


def test_a_corpus_of_one_text_is_refused(placed_lock, tmp_path):
    """The two documents are pieces, or copies, of one text."""
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((placed_lock.directory / name).read_bytes())
    shard = store.Shard(np.arange(104, 164), [30, 30], [1, 1], [7, 7])
    info = store.write_shard(tmp_path / "train-00000.safetensors", shard)
    content = placed_lock.content | {"train": {"shards": [info._asdict()]}}
    lonely = store.Lock(tmp_path, content)
    with pytest.raises(command.UserError, match="the train split of the corpus has a single text"):
        host_share.load(lonely, "train", batch_size=2)


@pytest.mark.parametrize(("shards", "batch_size", "groups"), [(64, 256, 64), (256, 256, 64), (4, 32, 4), (64, 7, 1)])
def test_groups_divide_shards_and_batch(shards, batch_size, groups):
    infos = [store.ShardInfo(f"{i}", "", 0, 9, 9, 9, 900 + i % 3) for i in range(shards)]
    dealt = host_share.deal(infos, batch_size)
    assert len(dealt) == groups
    assert [info.file for group in dealt for info in group] == [info.file for info in infos]


def test_groups_that_would_be_uneven_or_of_one_text_are_fewer():
    def infos(tokens, documents, origins):
        columns = zip(tokens, documents, origins, strict=True)
        return [store.ShardInfo("", "", 0, d, o, d, t) for t, d, o in columns]

    assert len(host_share.deal(infos([9_000] * 8, [9] * 8, [9] * 8), 32)) == 8
    assert len(host_share.deal(infos([9_000, 8_000] * 4, [9] * 8, [9] * 8), 32)) == 4  # tokens
    assert len(host_share.deal(infos([9_000] * 8, [9] * 4 + [200] * 4, [9] * 8), 32)) == 1  # documents, which fill rows
    assert len(host_share.deal(infos([9_000] * 8, [9] * 8, [9] * 7 + [1]), 32)) == 4  # a group of one text
