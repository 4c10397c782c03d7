"""An epoch's order is a shuffle, at the sizes of real corpora: index arithmetic, without data.

The tests look at chunk numbers, not tokens: a corpus of 4.5 billion tokens has 550,000 chunks in each of 64 groups.
"""

import itertools
import math

from helpers import epoch_groups, placed_rows
import numpy as np
import pytest
import tensorflow as tf

from bert_tpu.data import nsp_pairs, sampler

SIZES = (600, 20_000, 65_000, 260_000, 550_000, 1_000_000)
SEEDS = (0, 1, 2, 255, 256, 65_536, 2**31 - 1)
DEVIATIONS = 4  # standard errors that a statistic may be away from its expectation


def order(size, *, seed=0, epoch=0, seq_len=128, group=0):
    """Returns the entry at each index of one group's epoch, [size]."""
    key = tf.fill([size], tf.constant(sampler.key(seed, seq_len, group), tf.uint64))
    index = tf.range(size, dtype=tf.int64)
    return sampler.shuffle(index, tf.fill([size], np.int64(size)), sampler.mix(key, epoch)).numpy()


def correlation(one, other):
    """Returns the correlation of two orders, in standard errors of that of independent orders."""
    return np.corrcoef(one, other)[0, 1] * len(one) ** 0.5


@pytest.mark.parametrize("size", SIZES)
def test_batches_are_spread_over_an_epoch_as_those_of_a_shuffle(size):
    shares, epochs = [], max(1, 200 * 4 // size)
    for seed in range(8 if size < 20_000 else 2):
        entries = tf.function(epoch_groups.epoch_order(size, seed).entries)
        # Neighbours, from the whole epoch: 20 runs of 20 batches.
        last = epochs * size // 4 - 20
        starts = np.linspace(0, last, 20).astype(int)
        runs = [[entries(tf.constant(n, tf.int64))[0].numpy() for n in range(a, a + 20)] for a in starts]
        shares.append((np.array(runs) < size // 2).mean(axis=2))
    shares = np.concatenate(shares)
    variance = shares.var() / (0.25 / epoch_groups.BATCH)
    assert 0.8 < variance < 1.25
    one, next_one = shares[:, :-1].ravel(), shares[:, 1:].ravel()
    assert abs(np.corrcoef(one, next_one)[0, 1]) < 0.1
    assert shares.min() > 0.35
    assert shares.max() < 0.65


@pytest.mark.parametrize("size", SIZES)
def test_orders_of_epochs_seeds_groups_and_lengths_have_nothing_in_common(size):
    orders = [order(size, seed=seed) for seed in SEEDS]
    orders += [order(size, epoch=1), order(size, epoch=2), order(size, group=1), order(size, seq_len=512)]
    for entries in orders:
        assert np.bincount(entries, minlength=size).max() == 1  # each entry once
    places = [np.argsort(entries) for entries in orders]
    for one, other in itertools.combinations(range(len(orders)), 2):
        assert abs(correlation(orders[one], orders[other])) < DEVIATIONS + 1  # the largest of 55 pairs, twice
        assert abs(correlation(places[one], places[other])) < DEVIATIONS + 1
    for other in range(1, len(orders)):
        assert abs(correlation(orders[0], orders[other])) < DEVIATIONS
        # 2% of the entries are within 1% of their place in the other order.
        near = np.mean(np.abs(places[0] - places[other]) < 0.01 * size)
        assert abs(near - 0.0199) < DEVIATIONS * (0.02 / size) ** 0.5 + 1 / size


@pytest.mark.parametrize("size", [1, 2, 3, 5, 17])
def test_a_few_chunks_come_in_every_order(size):
    seen = {tuple(order(size, seed=seed).tolist()) for seed in range(300)}
    assert all(sorted(entries) == list(range(size)) for entries in seen)
    orders = float(math.factorial(size))
    assert len(seen) > 0.9 * orders * -np.expm1(300 * np.log1p(-1 / orders) if size > 1 else -np.inf)


def epochs_of(sizes, number):
    """Returns the visits of `number` epochs of one group, a Visit for each epoch."""
    order = epoch_groups.epoch_order(sizes.rows[0], groups=1)
    visits = tf.function(lambda n: sampler.chunk_visits(order, sizes, n))
    size = int(sizes.rows[0])
    steps = -(-size * number // epoch_groups.BATCH)
    rows = [visits(tf.constant(n, tf.int64)) for n in range(steps)]
    columns = [np.concatenate([column.numpy() for column in batches]) for batches in zip(*rows, strict=True)]
    return [nsp_pairs.Visit(*(column[i * size : (i + 1) * size] for column in columns)) for i in range(number)]


def test_an_epoch_has_each_side_of_each_split_once_and_half_of_its_rows_are_random():
    several, single = 3_001, 400
    sizes = sampler.GroupSizes(np.array([several]), np.array([single]))
    epochs = epochs_of(sizes, 3)
    for visit in epochs:
        is_several = visit.chunk < several
        assert sorted(visit.chunk[~is_several]) == list(range(several, several + single))
        assert visit.is_random[~is_several].all()
        assert visit.is_random[is_several].mean() == pytest.approx(0.5, abs=1e-3)
        assert not (visit.is_tail & ~visit.is_random).any()
        heads = np.sort(visit.chunk[is_several & visit.is_random & ~visit.is_tail])
        tails = np.sort(visit.chunk[is_several & visit.is_tail])
        wholes = np.sort(visit.chunk[is_several & ~visit.is_random])
        np.testing.assert_array_equal(heads, tails)
        np.testing.assert_array_equal(np.sort(np.concatenate([heads, wholes])), np.arange(several))
        splits = dict(zip(visit.chunk[visit.is_tail], visit.split[visit.is_tail], strict=True))
        pairs = is_several & visit.is_random & ~visit.is_tail
        assert all(splits[chunk] == split for chunk, split in zip(visit.chunk[pairs], visit.split[pairs], strict=True))
    # Which chunks have two rows, and where they are split, is new in each epoch.
    one, other = (set(visit.chunk[visit.is_tail].tolist()) for visit in epochs[:2])
    assert abs(len(one & other) / len(one) - 1 / 3) < DEVIATIONS * (2 / 9 / len(one)) ** 0.5
    by_chunk = [dict(zip(visit.chunk, visit.split, strict=True)) for visit in epochs[:2]]
    splits = np.array([[split_of[chunk] for split_of in by_chunk] for chunk in range(several)])
    assert abs(correlation(*splits.T)) < DEVIATIONS
    assert abs(splits.mean() - 0.5) < DEVIATIONS * (1 / 12 / splits.size) ** 0.5


def test_chunks_that_share_rows_show_the_other_side_in_the_next_epoch():
    number = 20_000
    chunk = tf.range(number, dtype=tf.int64)
    is_single = chunk >= 18_000
    key = tf.fill([number], tf.constant(sampler.key(0, 512, 0), tf.uint64))
    epochs = [sampler.example_visits(chunk, is_single, tf.fill([number], np.int64(e)), key) for e in range(4)]
    first, second, third, _ = (nsp_pairs.Visit(*(x.numpy() for x in visit)) for visit in epochs)
    several = ~is_single.numpy()
    assert first.is_random[~several].all()
    assert not first.is_tail[~several].any()
    for name in ("is_random", "split"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    is_random = several & first.is_random
    np.testing.assert_array_equal(first.is_tail[is_random], ~second.is_tail[is_random])
    assert abs(is_random[several].mean() - 0.5) < DEVIATIONS * 0.5 / 18_000**0.5
    assert abs(first.is_tail[is_random].mean() - 0.5) < DEVIATIONS * 0.5 / 9_000**0.5
    for name in ("is_random", "split", "is_tail"):
        assert abs(correlation(getattr(first, name)[several], getattr(third, name)[several])) < DEVIATIONS


def test_draws_of_steps_seeds_lengths_and_sites_have_nothing_in_common():
    def flat(seed, n, seq_len=128):
        pair_draws, mask_draws = sampler.draws(
            placed_rows.SPEC._replace(seed=seed), seq_len, 30_522, tf.constant(n, tf.int64), range(32)
        )
        return [np.asarray(x, np.float64).ravel() for x in (*pair_draws[:2], *mask_draws)]

    streams = [flat(seed, 0) for seed in SEEDS[:-1]] + [flat(0, n) for n in (1, 2, 256, 65_536)] + [flat(0, 0, 512)]
    for one, other in itertools.combinations(streams, 2):
        for x, y in zip(one, other, strict=True):
            length = min(len(x), len(y))
            assert abs(correlation(x[:length], y[:length])) < DEVIATIONS + 1  # the largest of 330
    assert all(abs(correlation(x[:32], y[:32])) < DEVIATIONS for x, y in itertools.combinations(streams[0], 2))


def test_a_mixed_key_is_splitmix64_s():
    def steele(state):
        mask = 2**64 - 1
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        return state ^ (state >> 31)

    states, numbers = [0, 1, 2**64 - 1, 12_345], [0, 7, -1, 2**40]
    expected = [steele((s + n * 0x9E3779B97F4A7C15) % 2**64) for s, n in zip(states, numbers, strict=True)]
    assert sampler.mix(tf.constant(states, tf.uint64), tf.constant(numbers, tf.int64)).numpy().tolist() == expected
