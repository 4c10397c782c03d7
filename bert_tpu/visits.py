"""Which entries of a table the rows of batch n visit, and with which random numbers: arithmetic on (seed, n) alone."""

import numpy as np
import tensorflow as tf

from bert_tpu import masking, packing, pairs

MAX_GROUPS = 64  # hosts that can each have a share of their own
SITES = ("pairs", "coins", "order", "action", "replacement", "others")  # one stream of random numbers each


class Visits:
    """The visits of a share's rows to its entries, chunks or packed rows, each once an epoch in a new order."""

    def __init__(self, share, bounds, recipe, seq_len):
        """bounds: the entries of the share's group g are bounds[g] .. bounds[g + 1] - 1."""
        total = recipe.rows(seq_len)
        self.rows = range(*(row * total // recipe.batch_size for row in (share.rows.start, share.rows.stop)))
        self._rows_a_group = total // share.num_groups
        row = np.asarray(self.rows)
        group = row // self._rows_a_group - share.first_group
        self._place = row % self._rows_a_group
        self._first, self._count = tf.constant(bounds[group]), tf.constant(np.diff(bounds)[group])
        # First and number of the documents that a random B may come from.
        self.documents = share.document_start[group], np.diff(share.document_start)[group]
        # Every group shuffles by itself, under its number in the whole corpus.
        self._stream = tf.constant(seq_len * MAX_GROUPS + share.first_group + group)
        self._seed = tf.fill(tf.shape(self._stream), tf.constant(recipe.seed, tf.int64))

    def entries(self, n):
        """The entry of each row in batch n, [rows]."""
        visit = n * self._rows_a_group + self._place
        epoch, index = visit // self._count, visit % self._count
        seed = tf.stack([self._seed, self._stream, epoch], axis=1)
        return self._first + tf.raw_ops.RandomIndexShuffle(
            index=index, seed=seed, max_index=self._count - 1, rounds=4
        )  # fmt: skip


def draws(recipe, seq_len, vocab_size, n, rows):
    """Random numbers of the n-th batch. Every host draws the whole batch's, which is cheap, and keeps its rows.

    The pairs' of a packed batch are those of E examples a row, one after the other.
    """
    total, M = recipe.rows(seq_len), recipe.predictions(seq_len)
    examples = (recipe.packed_examples,) if recipe.is_packed(seq_len) else ()

    def uniform(site, shape, dtype=tf.float64, **bounds):
        return _uniform(recipe, seq_len, n, site, (total, *shape), dtype, **bounds)[rows.start : rows.stop]

    of_pair = tf.unstack(tf.reshape(uniform("pairs", (*examples, 6)), [-1, 6]), axis=1)
    coins = uniform("coins", (*examples, pairs.COIN_WORDS), tf.int64, minval=None, maxval=None)
    return pairs.Draws(*of_pair, tf.reshape(coins, [-1, pairs.COIN_WORDS])), masking.Draws(
        order=uniform("order", (seq_len,), tf.float32),
        action=uniform("action", (M,), tf.float32),
        replacement=uniform("replacement", (M,), tf.int32, maxval=vocab_size),
    )


def other_documents(recipe, seq_len, n, rows):
    """More numbers for documents that a random B of a packed example may come from, [rows x E, OTHERS]."""
    shape = (recipe.rows(seq_len), recipe.packed_examples, packing.OTHERS)
    drawn = _uniform(recipe, seq_len, n, "others", shape, tf.float64)[rows.start : rows.stop]
    return tf.reshape(drawn, [-1, packing.OTHERS])


def _uniform(recipe, seq_len, n, site, shape, dtype, **bounds):
    seed = [recipe.seed << 32 | seq_len << 8 | SITES.index(site), n]
    return tf.random.stateless_uniform(shape, seed, dtype=dtype, **bounds)
