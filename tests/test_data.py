"""Batches against the corpus they came from and the rules of create_pretraining_data.py.

The corpus is `placed_lock`: a token's id tells its place, so that a row can be traced back.
"""

import collections
import itertools
import time

from conftest import FIRST_PLACED
import numpy as np
import pytest

from bert_tpu import chunks, command, corpus, data, fingerprint, recipe

SEQ_LEN, BATCH = 128, 32
RULES = recipe.check(
    recipe.Recipe(
        dir="", seq_lens=(SEQ_LEN, 512), max_predictions=(20, 76), schedule="phased", long_every=10, short_prob=0.1,
        mask_rate=0.15, whole_word=False, packed_rows=0, packed_examples=1, seed=3, batch_size=BATCH,
        num_steps=1_000_000,
    )
)  # fmt: skip


class Row:
    """A row traced back: places of A and B in the corpus, and the label."""

    def __init__(self, batch, r):
        ids = batch["input_ids"][r].copy()
        used = batch["masked_ids"][r] > 0
        ids[batch["masked_positions"][r][used]] = batch["masked_ids"][r][used]
        self.length = int(batch["attention_mask"][r].sum())
        first, second = np.flatnonzero(ids == 3)
        assert ids[0] == 2
        assert second == self.length - 1
        assert (ids[self.length :] == 0).all()
        assert (batch["token_type_ids"][r] == ((np.arange(len(ids)) > first) & (np.arange(len(ids)) <= second))).all()
        self.a, self.b = ids[1:first] - FIRST_PLACED, ids[first + 1 : second] - FIRST_PLACED
        self.label = int(batch["next_sentence_label"][r])


@pytest.fixture(scope="module")
def share(placed_lock):
    return data.load(placed_lock, "train", batch_size=BATCH)


@pytest.fixture(scope="module")
def whole_text(placed_lock):
    """The training split in the order of the ids."""
    return chunks.text(corpus.load(placed_lock, placed_lock.splits["train"]))


def stream(share, first, last, rules=RULES, seq_len=SEQ_LEN):
    return data.stream(share, data.cut(share, seq_len), rules, seq_len, first, last)


@pytest.fixture(scope="module")
def rows(share):
    return [Row(batch, r) for batch in stream(share, 0, 300) for r in range(BATCH)]


def document_of(text, place):
    sentence = np.searchsorted(text.sentence_start, place, side="right") - 1
    return int(np.searchsorted(text.document_start, sentence, side="right") - 1)


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


def test_a_little_over_half_of_the_rows_are_random_and_single_sentences_always(rows, whole_text):
    table = chunks.table(whole_text, target=SEQ_LEN - 3)
    single = {int(f) for f, end in zip(table.first, table.last, strict=True) if end - f == 1}
    labels = collections.defaultdict(list)
    for row in rows:
        sentence = int(np.searchsorted(whole_text.sentence_start, row.a[0], side="right") - 1)
        labels[sentence in single].append(row.label)
    assert all(labels[True])
    assert 0.5 <= np.mean(labels[False]) < 0.58  # 10% have short targets, and some of those hold one sentence


def test_each_chunk_comes_once_an_epoch_in_a_new_order(share, whole_text):
    table, held = data.cut(share, SEQ_LEN), share.text
    rows_a_group = BATCH // share.num_groups
    visits = collections.defaultdict(list)
    for batch in stream(share, 0, 60):
        for r in range(BATCH):
            place = Row(batch, r).a[0] + FIRST_PLACED  # an id; the share orders shards in its own way
            sentence = np.searchsorted(held.sentence_start, np.flatnonzero(held.tokens == place)[0], side="right") - 1
            chunk = int(np.searchsorted(table.chunks.first, sentence, side="right") - 1)
            visits[r // rows_a_group].append(chunk)
    for group, seen in visits.items():
        mine = set(range(table.bounds[group], table.bounds[group + 1]))
        epochs = [seen[i : i + len(mine)] for i in range(0, len(seen) - len(mine) + 1, len(mine))]
        assert len(epochs) >= 2
        assert all(set(epoch) == mine for epoch in epochs)
        assert all(one != other for one, other in itertools.combinations(epochs, 2))


def test_every_sentence_is_in_exactly_one_chunk_that_reaches_the_target(whole_text):
    for target in (5, 125, 509):
        table = chunks.table(whole_text, target=target)
        assert table.first[0] == 0
        assert table.last[-1] == len(whole_text.sentence_start) - 1
        assert (table.first[1:] == table.last[:-1]).all()
        for first, last, document in zip(*table, strict=True):
            tokens = np.diff(whole_text.sentence_start[first : last + 1])
            ends = last == whole_text.document_start[document + 1]
            assert ends or tokens.sum() >= target
            assert tokens[:-1].sum() < target  # without its last sentence it would not reach


def test_targets_are_short_in_a_tenth_of_the_rows(share):
    def mean_length(short_prob):
        rules = RULES._replace(short_prob=short_prob)
        return np.mean([batch["attention_mask"].sum(axis=1).mean() for batch in stream(share, 0, 100, rules)])

    never, tenth, always = map(mean_length, (0.0, 0.1, 1.0))
    assert always < never - 20
    assert abs(tenth - (0.9 * never + 0.1 * always)) < 0.02 * (never - always)


def test_a_batch_is_a_function_of_seed_and_number(share):
    hashes = [fingerprint.sha256(batch) for batch in stream(share, 0, 6)]
    assert len(set(hashes)) == 6
    assert [fingerprint.sha256(batch) for batch in stream(share, 4, 6)] == hashes[4:]
    assert fingerprint.sha256(next(stream(share, 0, 1, RULES._replace(seed=4)))) != hashes[0]


@pytest.mark.parametrize("hosts", [2, 4, 8])
def test_the_global_batch_is_the_same_for_any_number_of_hosts(placed_lock, share, hosts):
    whole = list(stream(share, 7, 9))
    shares = [
        data.load(placed_lock, "train", batch_size=BATCH, process_index=i, process_count=hosts) for i in range(hosts)
    ]
    parts = [list(stream(part, 7, 9)) for part in shares]
    for n, batch in enumerate(whole):
        joined = {name: np.concatenate([part[n][name] for part in parts]) for name in batch}
        assert fingerprint.sha256(joined) == fingerprint.sha256(batch)
    # Each host holds its part of the corpus and no more.
    assert sum(len(part.text.tokens) for part in shares) == len(share.text.tokens)


def test_seeking_to_step_one_million_takes_no_longer_than_to_step_one(share):
    def seconds(first):
        begun = time.perf_counter()
        next(stream(share, first, first + 2))
        return time.perf_counter() - begun

    near, far = (min(seconds(first) for _ in range(2)) for first in (1, 1_000_000))
    assert far < 3 * near  # walking there would take minutes


def test_masks_differ_between_epochs_of_the_same_chunk(share):
    table = data.cut(share, SEQ_LEN)
    epoch = int(np.diff(table.bounds).max()) * share.num_groups // BATCH + 1
    one, other = (np.stack([b["masked_positions"] for b in stream(share, n, n + 1)]) for n in (0, epoch))
    assert (one != other).mean() > 0.5


@pytest.mark.parametrize("schedule", ["phased", "mixed"])
def test_training_follows_the_schedule_and_resumes_anywhere(share, schedule):
    rules = RULES._replace(schedule=schedule, num_steps=40)
    whole = [(n, fingerprint.sha256(batch)) for n, batch in data.train(share, rules, 0)]
    long = [step for step, (n, _) in enumerate(whole) if n == 512]
    assert long == ([36, 37, 38, 39] if schedule == "phased" else [9, 19, 29, 39])
    for first in (9, 10, 38):
        assert [(n, fingerprint.sha256(batch)) for n, batch in data.train(share, rules, first)] == whole[first:]


def test_heldout_batches_are_the_same_for_every_seed(placed_lock):
    share = data.load(placed_lock, "heldout", batch_size=BATCH)

    def hashes(seed):
        return [fingerprint.sha256(b) for _, b in data.heldout(share, RULES._replace(seed=seed), 2)]

    assert hashes(0) == hashes(1)
    assert len(set(hashes(0))) == 4  # two batches for each of two lengths
    rules = RULES._replace(seed=data.HELDOUT_SEED)
    assert hashes(0) == [fingerprint.sha256(b) for n in (128, 512) for b in stream(share, 0, 2, rules, n)]


def test_a_corpus_too_small_for_a_batch_is_refused(placed_lock):
    rules = RULES._replace(batch_size=4096)
    share = data.load(placed_lock, "train", batch_size=4096)
    with pytest.raises(command.UserError, match="too small for one batch"):
        data.train(share, rules, 0)


def test_a_corpus_of_one_document_is_refused(placed_lock):
    lonely = [placed_lock.splits["train"][0]._replace(documents=1)]
    with pytest.raises(command.UserError, match="fewer than two documents"):
        data.deal(lonely, 32)


@pytest.mark.parametrize(("files", "batch_size", "groups"), [(100, 256, 64), (5, 32, 4), (3, 32, 2), (64, 7, 7)])
def test_groups_divide_the_batch_and_are_even(files, batch_size, groups):
    rng = np.random.default_rng(0)
    infos = [corpus.ShardInfo(f"{i}", "", 0, 9, 9, int(rng.integers(900, 1100))) for i in range(files)]
    dealt = data.deal(infos, batch_size)
    assert len(dealt) == groups
    assert sorted(info.file for group in dealt for info in group) == sorted(info.file for info in infos)
    sizes = [sum(info.tokens for info in group) for group in dealt]
    assert max(sizes) - min(sizes) <= max(info.tokens for info in infos)
