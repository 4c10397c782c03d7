"""Decides which chunks the rows of batch n show, and with which random numbers: arithmetic on (seed, n) alone.

An epoch shows each sentence once in its own place, as create_pretraining_data.py does. There, the sentences that a
random B replaces begin the next row. Here such a chunk has two rows in the epoch: in one, A is the part before the
split, and in the other the part after it. Two thirds of the chunks have one row, A and the B that follows it. So half
of the rows have a random B. Which chunks these are, and where each is split, is drawn again for each epoch.
"""

import hashlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from bert_tpu.data import batch_spec, host_share, masking, nsp_pairs, packing

# Rounds of the cipher of RandomIndexShuffle. With 4, batches are not spread over an epoch; with 8 and more they are
# (tests/data/test_sampler.py). The cipher is Simon, whose smallest form has 32 rounds of other keys.
ROUNDS = 16
STEP, FACTORS = 0x9E3779B97F4A7C15, (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)  # of splitmix64, Steele et al. 2014


class GroupSizes(NamedTuple):
    """Numbers of chunks of each group, int64 [groups]: chunks of several sentences come first, then those of one."""

    several: np.ndarray
    single: np.ndarray

    @property
    def twice(self) -> np.ndarray:
        """Chunks that have two rows in an epoch, each with a random B: 3 chunks have 4 rows and 2 random Bs."""
        return np.round(self.several / 3).astype(np.int64)

    @property
    def rows(self) -> np.ndarray:
        """Rows of an epoch. A chunk of one sentence has one row, with a random B, as in the original."""
        return self.several + self.twice + self.single

    @property
    def chunks(self) -> np.ndarray:
        """Chunks, which are the rows of an epoch without NSP."""
        return self.several + self.single


class EpochOrder:
    """The order in which a share's groups show their rows: each row once an epoch, in a new order each time."""

    def __init__(
        self,
        share: host_share.HostShare,
        spec: batch_spec.BatchSpec,
        seq_len: int,
        epoch_rows: np.ndarray,
        *,
        since: int = 0,
    ):
        """Prepares the order of batches of `seq_len`.

        epoch_rows: int64 [groups], rows of each group in an epoch
        since: the step at which the first epoch begins
        """
        total = spec.rows(seq_len)
        self.rows = range(*(row * total // spec.batch_size for row in (share.rows.start, share.rows.stop)))
        self._rows_per_group = total // share.num_groups
        row = np.asarray(self.rows)
        self.group = row // self._rows_per_group - share.first_group  # of each row
        # Of each row among its group's rows, for n = 0. All sizes of batches divide over the groups.
        self._place = row % self._rows_per_group + spec.first_row(seq_len, since=since) // share.num_groups
        self._size = tf.constant(epoch_rows[self.group])
        # A group is numbered within the whole corpus, so that hosts agree.
        keys = [key(spec.seed, seq_len, share.first_group + group) for group in range(len(epoch_rows))]
        self._key = tf.constant(np.array(keys, np.uint64)[self.group])

    def entries(self, n: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns (entry within the group's epoch, epoch, key of the group) of each row in batch n, [rows] each."""
        visit = n * self._rows_per_group + self._place
        epoch = visit // self._size
        return shuffle(visit % self._size, self._size, mix(self._key, epoch)), epoch, self._key


def chunk_visits(order: EpochOrder, sizes: GroupSizes, n: tf.Tensor) -> nsp_pairs.Visit:
    """Returns the visits of batch n where each row has one chunk. sizes: of all groups of the share."""
    several, twice = (tf.constant(x[order.group]) for x in (sizes.several, sizes.twice))
    entry, epoch, group_key = order.entries(n)
    is_single = entry >= several + twice
    is_tail = (entry >= several) & ~is_single
    place = tf.where(is_single, tf.zeros_like(entry), tf.where(is_tail, entry - several, entry))
    epoch_key = mix(group_key, -1 - epoch)  # not the key of the rows' order
    chunk = shuffle(place, tf.maximum(several, 1), epoch_key)
    chunk = tf.where(is_single, entry - twice, chunk)
    return nsp_pairs.Visit(chunk, is_single | (place < twice), is_tail, _uniform_of(mix(epoch_key, chunk)))


def example_visits(chunk: tf.Tensor, is_single: tf.Tensor, epoch: tf.Tensor, group_key: tf.Tensor) -> nsp_pairs.Visit:
    """Returns the visits of chunks that share rows, where each chunk comes once an epoch.

    A chunk whose B is random in two epochs shows one side of its split in the first and the other in the second.

    chunk: int64 [N], number in the group
    is_single: bool [N], True for a chunk of one sentence
    epoch: int64 [N]
    group_key: uint64 [N]
    """
    bits = mix(mix(group_key, -1 - epoch // 2), chunk)
    is_random = is_single | _bit(bits, 0)
    is_tail = is_random & ~is_single & (_bit(bits, 1) ^ (epoch % 2 == 1))
    return nsp_pairs.Visit(chunk, is_random, is_tail, _uniform_of(bits))


def draws(
    spec: batch_spec.BatchSpec, seq_len: int, vocab_size: int, n: tf.Tensor, rows: range
) -> tuple[nsp_pairs.Draws, masking.Draws]:
    """Returns the random numbers of the n-th batch for its pairs and for its masks.

    Every host draws those of the whole batch, which is cheap, and keeps its rows. A packed batch has the pairs' numbers
    of E examples a row, one after the other.

    rows: the host's rows of the batch
    """
    total, M = spec.rows(seq_len), spec.predictions(seq_len)
    examples = (spec.packed_examples,) if spec.is_packed(seq_len) else ()

    def uniform(site: str, shape: tuple[int, ...], dtype: tf.DType = tf.float64, **bounds: Any) -> tf.Tensor:
        return _uniform(spec, seq_len, n, site, (total, *shape), dtype, **bounds)[rows.start : rows.stop]

    other_document, other_sentence = tf.unstack(tf.reshape(uniform("pairs", (*examples, 2)), [-1, 2]), axis=1)
    coins = uniform("coins", (*examples, nsp_pairs.COIN_WORDS), tf.int64, minval=None, maxval=None)
    pair_draws = nsp_pairs.Draws(other_document, other_sentence, tf.reshape(coins, [-1, nsp_pairs.COIN_WORDS]))
    return pair_draws, masking.Draws(
        order=uniform("order", (seq_len,), tf.float32),
        action=uniform("action", (M,), tf.float32),
        replacement=uniform("replacement", (M,), tf.int32, maxval=vocab_size),
    )


def extra_document_draws(spec: batch_spec.BatchSpec, seq_len: int, n: tf.Tensor, rows: range) -> tf.Tensor:
    """Returns `extra_documents` of nsp_pairs.choose for packed examples, float64 [rows x E, N] in [0, 1)."""
    shape = (spec.rows(seq_len), spec.packed_examples, packing.EXTRA_DOCUMENTS)
    uniform = _uniform(spec, seq_len, n, "others", shape, tf.float64)[rows.start : rows.stop]
    return tf.reshape(uniform, [-1, packing.EXTRA_DOCUMENTS])


def _uniform(
    spec: batch_spec.BatchSpec,
    seq_len: int,
    n: tf.Tensor,
    site: str,
    shape: tuple[int, ...],
    dtype: tf.DType,
    **bounds: Any,
) -> tf.Tensor:
    """Draws from the stream of random numbers named `site`. Changing a site's name changes every batch."""
    # A hash, though TensorFlow scrambles a seed as well: related seeds must not give related streams.
    seed = tf.stack([tf.bitcast(tf.constant(key(spec.seed, seq_len, site), tf.uint64), tf.int64), n])
    return tf.random.stateless_uniform(shape, seed, dtype=dtype, **bounds)


def key(*words: int | str) -> int:
    """Hashes numbers and names to 0 .. 2^64 - 1: equal words give equal keys, different words unrelated ones."""
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=8).digest(), "little")


def mix(keys: tf.Tensor, numbers: tf.Tensor | int) -> tf.Tensor:
    """Hashes pairs of a key and a number to uint64: splitmix64's output `numbers` steps after the state `keys`."""
    x = keys + tf.cast(numbers, tf.uint64) * tf.constant(STEP, tf.uint64)
    for shift, factor in zip((30, 27), FACTORS, strict=True):
        x = (x ^ tf.bitwise.right_shift(x, tf.constant(shift, tf.uint64))) * tf.constant(factor, tf.uint64)
    return x ^ tf.bitwise.right_shift(x, tf.constant(31, tf.uint64))


def shuffle(index: tf.Tensor, size: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    """Maps each `index` of 0 .. size - 1 by the permutation that belongs to its key; all [N]."""
    more = mix(keys, 1)
    words = [keys, tf.bitwise.right_shift(keys, tf.constant(32, tf.uint64)), more]
    seed = tf.cast(tf.stack(words, axis=1) & tf.constant(2**32 - 1, tf.uint64), tf.uint32)
    return tf.raw_ops.RandomIndexShuffle(index=index, seed=seed, max_index=size - 1, rounds=ROUNDS)


def _bit(keys: tf.Tensor, place: int) -> tf.Tensor:
    return tf.bitwise.right_shift(keys, tf.constant(place, tf.uint64)) & tf.constant(1, tf.uint64) == 1


def _uniform_of(keys: tf.Tensor) -> tf.Tensor:
    """Turns the keys' upper 53 bits into float64 in [0, 1)."""
    return tf.cast(tf.bitwise.right_shift(keys, tf.constant(11, tf.uint64)), tf.float64) * 2.0**-53
