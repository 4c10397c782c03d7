"""Which tokens are masked and by what (create_masked_lm_predictions of create_pretraining_data.py), by whole batches.

Letters: B batch  L tokens  M prediction slots.
"""

from typing import NamedTuple

import tensorflow as tf


class Draws(NamedTuple):
    """A batch's random numbers: `order` [B, L] and `action` [B, M] in [0, 1), `replacement` int32 [B, M], ids."""

    order: tf.Tensor
    action: tf.Tensor
    replacement: tf.Tensor


class Masked(NamedTuple):
    """Ids with masks [B, L]; positions, ascending, and true ids [B, M]; unused slots hold 0 and 0; all int32."""

    input_ids: tf.Tensor
    positions: tf.Tensor
    ids: tf.Tensor


def mask(rows, draws, *, rate, mask_id, is_continuation=None) -> Masked:
    """Chooses max(1, round(rate x length)) text tokens a row, at most M, and hides them.

    80% become [MASK], 10% stay, 10% become `replacement`. The length counts [CLS] and [SEP]; only text is chosen.
    is_continuation: bool [V], true for pieces such as "##ing": then whole words are chosen, in random order, and a
    word that would exceed the number is passed over, so a row may get fewer.
    """
    slots = draws.action.shape[1]
    # In float64 and half to even, as Python's round() has it.
    count = tf.round(rate * tf.cast(rows.length, tf.float64))
    count = tf.minimum(tf.maximum(tf.cast(count, tf.int32), 1), slots)
    if is_continuation is None:
        chosen = _tokens(rows.is_text, draws.order, count, slots)
    else:
        chosen = _words(rows, draws.order, count, slots, is_continuation)
    return hide(rows.ids, tf.sort(chosen, axis=1), draws, mask_id)


class Examples(NamedTuple):
    """Rows that several examples share: of each place its example [B, L]; their tokens of text, and all [B, E]."""

    number: tf.Tensor
    text: tf.Tensor
    length: tf.Tensor


def choose_by_example(examples, is_text, draws, *, rate, most):
    """Places [B, M], ascending, L in empty slots: of each example as many as `mask` takes of a row, up to `most`."""
    slots, L = draws.action.shape[1], is_text.shape[1]
    count = tf.cast(tf.round(rate * tf.cast(examples.length, tf.float64)), tf.int32)
    count = tf.where(examples.length > 0, tf.clip_by_value(count, 1, most), 0)
    # Sorted by example and, within one, by `order`: a token's rank in its example is its place less where that begins.
    order = tf.cast(examples.number, tf.float64) + tf.cast(draws.order, tf.float64)
    places = tf.argsort(tf.where(is_text, order, tf.float64.max), axis=1, stable=True)
    number = tf.gather(examples.number, places, batch_dims=1)
    begin = tf.cast(tf.cumsum(examples.text, axis=1, exclusive=True), tf.int32)
    rank = tf.range(L)[None] - tf.gather(begin, number, batch_dims=1)
    taken = tf.gather(is_text, places, batch_dims=1) & (rank < tf.gather(count, number, batch_dims=1))
    return tf.sort(tf.where(taken, places, L), axis=1)[:, :slots]


def hide(row_ids, chosen, draws, mask_id) -> Masked:
    """Hides the chosen places [B, M], ascending; L in slots without one."""
    length = row_ids.shape[1]
    used = chosen < length
    positions = tf.where(used, chosen, 0)
    ids = tf.where(used, tf.gather(row_ids, positions, batch_dims=1), 0)
    hidden = tf.where(draws.action < 0.8, mask_id, tf.where(draws.action < 0.9, ids, draws.replacement))
    where = tf.where(used, positions + length * tf.range(tf.shape(positions)[0])[:, None], -1)
    flat = tf.reshape(row_ids, [-1])
    flat = tf.tensor_scatter_nd_update(flat, tf.boolean_mask(where, used)[:, None], tf.boolean_mask(hidden, used))
    return Masked(tf.reshape(flat, tf.shape(row_ids)), positions, ids)


def _tokens(is_text, order, count, slots):
    """Places of the `count` text tokens that come first in `order`; L in the slots behind them."""
    rank, places = tf.math.top_k(tf.where(is_text, -order, -2.0), k=slots)
    chosen = (tf.range(slots)[None] < count[:, None]) & (rank > -2.0)  # a short row may have fewer than `count`
    return tf.where(chosen, places, is_text.shape[1])


def _words(rows, order, count, slots, is_continuation):
    """Places of whole words, taken in `order` while they fit into `count`; L in the slots behind them."""
    length = rows.ids.shape[1]
    goes_on = tf.gather(is_continuation, rows.ids) & rows.is_text & tf.roll(rows.is_text, 1, axis=1)
    word = tf.cumsum(tf.cast(~goes_on, tf.int32), axis=1)
    begin, end = tf.searchsorted(word, word, side="left"), tf.searchsorted(word, word, side="right")
    # A word's tokens share the number at its index, and a stable sort keeps them in a row.
    key = tf.where(rows.is_text, tf.gather(order, word - 1, batch_dims=1), 2.0)
    places = tf.argsort(key, axis=1, stable=True)
    size = tf.gather(end - begin, places, batch_dims=1)
    to_end = tf.gather(end - 1, places, batch_dims=1) - places

    def a_pass(alive, taken, used):
        """Takes the words up to the first that does not fit, then drops all that never will."""
        end_count = used[:, None] + tf.cumsum(tf.cast(alive, tf.int32), axis=1) + to_end
        misfit = alive & (end_count > count[:, None])
        new = alive & (tf.cumsum(tf.cast(misfit, tf.int32), axis=1) == 0)
        used += tf.reduce_sum(tf.cast(new, tf.int32), axis=1)
        return alive & ~new & (size <= (count - used)[:, None]), taken | new, used

    alive = tf.gather(rows.is_text, places, batch_dims=1)
    _, taken, _ = tf.while_loop(
        lambda alive, taken, used: tf.reduce_any(alive), a_pass, (alive, tf.zeros_like(alive), tf.zeros_like(count))
    )
    return tf.sort(tf.where(taken, places, length), axis=1)[:, :slots]
