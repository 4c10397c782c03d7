"""Which chunks the rows of batch n show, and with which random numbers: arithmetic on (seed, n) alone.

An epoch shows each sentence once in its own place, as create_pretraining_data.py does. There, where B is random, the
sentences that B stands for begin the next row. Here such a chunk has two rows in the epoch: A is what comes before the
split in one and what comes behind it in the other. Two thirds of the chunks have one row, A and the B that follows it.
So half of the rows have a random B. Which chunks these are, and where each is split, is drawn anew for each epoch.
"""

import hashlib
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bert_tpu.data import masking, nsp_pairs, packing

MAX_GROUPS = 64  # hosts that can each have a share of their own
SITES = ("pairs", "coins", "order", "action", "replacement", "others")  # one stream of random numbers each
# Of the cipher behind RandomIndexShuffle. With 4 batches are not spread over an epoch, with 8 and more they are
# (tests/data/test_sampler.py). It is Simon, whose smallest form has 32 rounds of other keys.
ROUNDS = 16
STEP, FACTORS = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of splitmix64, Steele et al. 2014


class GroupSizes(NamedTuple):
    """The chunks of one group: first those of several sentences, then those of one; numbers of both."""

    several: np.ndarray
    single: np.ndarray

    @property
    def twice(self) -> np.ndarray:
        """The chunks that have two rows in an epoch, each with a random B: of 3 chunks, 4 rows and 2 random Bs."""
        return np.round(self.several / 3).astype(np.int64)

    @property
    def rows(self) -> np.ndarray:
        """The rows of an epoch. A chunk of one sentence has one row, with a random B, as in the original."""
        return self.several + self.twice + self.single


class EpochOrder:
    """The rows of a share's groups, each once an epoch in a new order."""

    def __init__(self, share, spec, seq_len, sizes):
        """sizes: rows of an epoch of each group of the share, int64 [groups]."""
        total = spec.rows(seq_len)
        self.rows = range(*(row * total // spec.batch_size for row in (share.rows.start, share.rows.stop)))
        self._rows_per_group = total // share.num_groups
        row = np.asarray(self.rows)
        self.group = row // self._rows_per_group - share.first_group  # of each row
        self._place = row % self._rows_per_group
        self._size = tf.constant(sizes[self.group])
        # A group has its number in the whole corpus, so that hosts agree.
        keys = [key(spec.seed, seq_len, share.first_group + group) for group in range(len(sizes))]
        self._key = tf.constant(np.array(keys, np.uint64)[self.group])

    def entries(self, n):
        """(entry of its group's epoch, epoch, key of the group) of each row in batch n, [rows] each."""
        visit = n * self._rows_per_group + self._place
        epoch = visit // self._size
        return shuffle(visit % self._size, self._size, mix(self._key, epoch)), epoch, self._key


class Visit(NamedTuple):
    """How a row shows its chunk; each [B]."""

    chunk: tf.Tensor  # number in its group
    is_random: tf.Tensor  # whether B comes from another text
    is_tail: tf.Tensor  # whether A is what comes behind the split, where B is random
    split: tf.Tensor  # in [0, 1)


def chunk_visits(visits, sizes, n) -> Visit:
    """The visits of batch n where each row has one chunk. sizes: Sizes of each group."""
    several, twice = (tf.constant(x[visits.group]) for x in (sizes.several, sizes.twice))
    entry, epoch, group_key = visits.entries(n)
    is_single = entry >= several + twice
    is_tail = (entry >= several) & ~is_single
    place = tf.where(is_single, tf.zeros_like(entry), tf.where(is_tail, entry - several, entry))
    epoch_key = mix(group_key, -1 - epoch)  # another than that of the rows' order
    chunk = shuffle(place, tf.maximum(several, 1), epoch_key)
    chunk = tf.where(is_single, entry - twice, chunk)
    return Visit(chunk, is_single | (place < twice), is_tail, _uniform_of(mix(epoch_key, chunk)))


def example_visits(chunk, is_single, epoch, group_key) -> Visit:
    """The visits of chunks that share rows, which all come once an epoch; each argument [N].

    A chunk whose B is random in two epochs shows one side of its split in the first and the other in the second.
    """
    bits = mix(mix(group_key, -1 - epoch // 2), chunk)
    is_random = is_single | _bit(bits, 0)
    is_tail = is_random & ~is_single & (_bit(bits, 1) ^ (epoch % 2 == 1))
    return Visit(chunk, is_random, is_tail, _uniform_of(bits))


def draws(spec, seq_len, vocab_size, n, rows):
    """Random numbers of the n-th batch. Every host draws the whole batch's, which is cheap, and keeps its rows.

    The pairs' of a packed batch are those of E examples a row, one after the other.
    """
    total, M = spec.rows(seq_len), spec.predictions(seq_len)
    examples = (spec.packed_examples,) if spec.is_packed(seq_len) else ()

    def uniform(site, shape, dtype=tf.float64, **bounds):
        return _uniform(spec, seq_len, n, site, (total, *shape), dtype, **bounds)[rows.start : rows.stop]

    of_pair = tf.unstack(tf.reshape(uniform("pairs", (*examples, 2)), [-1, 2]), axis=1)
    coins = uniform("coins", (*examples, nsp_pairs.COIN_WORDS), tf.int64, minval=None, maxval=None)
    return nsp_pairs.Draws(*of_pair, tf.reshape(coins, [-1, nsp_pairs.COIN_WORDS])), masking.Draws(
        order=uniform("order", (seq_len,), tf.float32),
        action=uniform("action", (M,), tf.float32),
        replacement=uniform("replacement", (M,), tf.int32, maxval=vocab_size),
    )


def extra_document_draws(spec, seq_len, n, rows):
    """More numbers for documents that a random B of a packed example may come from, [rows x E, OTHERS]."""
    shape = (spec.rows(seq_len), spec.packed_examples, packing.EXTRA_DOCUMENTS)
    drawn = _uniform(spec, seq_len, n, "others", shape, tf.float64)[rows.start : rows.stop]
    return tf.reshape(drawn, [-1, packing.EXTRA_DOCUMENTS])


def _uniform(spec, seq_len, n, site, shape, dtype, **bounds):
    # A hash, though TensorFlow scrambles a seed as well: related seeds must not give related streams.
    seed = tf.stack([tf.bitcast(tf.constant(key(spec.seed, seq_len, site), tf.uint64), tf.int64), n])
    return tf.random.stateless_uniform(shape, seed, dtype=dtype, **bounds)


def key(*words) -> int:
    """A hash of numbers and names, uniform in 0 .. 2^64 - 1: equal words give equal keys, others unrelated ones."""
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=8).digest(), "little")


def mix(keys, numbers):
    """uint64 keys, each of a key and a number: splitmix64's output `numbers` steps after the state `keys`."""
    x = keys + tf.cast(numbers, tf.uint64) * tf.constant(STEP, tf.uint64)
    for shift, factor in zip((30, 27), FACTORS, strict=True):
        x = (x ^ tf.bitwise.right_shift(x, tf.constant(shift, tf.uint64))) * tf.constant(factor, tf.uint64)
    return x ^ tf.bitwise.right_shift(x, tf.constant(31, tf.uint64))


def shuffle(index, size, keys):
    """Each `index` of 0 .. size - 1 under the permutation of its key; all [N]."""
    more = mix(keys, 1)
    words = [keys, tf.bitwise.right_shift(keys, tf.constant(32, tf.uint64)), more]
    seed = tf.cast(tf.stack(words, axis=1) & tf.constant(2**32 - 1, tf.uint64), tf.uint32)
    return tf.raw_ops.RandomIndexShuffle(index=index, seed=seed, max_index=size - 1, rounds=ROUNDS)


def _bit(keys, place):
    return tf.bitwise.right_shift(keys, tf.constant(place, tf.uint64)) & tf.constant(1, tf.uint64) == 1


def _uniform_of(keys):
    """float64 in [0, 1) of the keys' upper 53 bits."""
    return tf.cast(tf.bitwise.right_shift(keys, tf.constant(11, tf.uint64)), tf.float64) * 2.0**-53
