"""Masks tokens of whole batches, as create_masked_lm_predictions of create_pretraining_data.py does for a row.

Letters: B batch  L tokens  M prediction slots.
"""

from typing import NamedTuple

import tensorflow as tf

from bert_tpu.data import batch_spec, nsp_pairs


class Draws(NamedTuple):
    """A batch's random numbers: `order` [B, L] and `action` [B, M] in [0, 1), `replacement` int32 [B, M], ids."""

    order: tf.Tensor
    action: tf.Tensor
    replacement: tf.Tensor


def rate_of(spec: batch_spec.BatchSpec, seq_len: int, n: tf.Tensor) -> tf.Tensor | float:
    """Returns the share of tokens to predict in the n-th batch of `seq_len`, by BatchSpec's rule."""
    if not spec.final_mask_rate:
        return spec.mask_rate
    progress = spec.progress(tf.cast(spec.step_of(n, seq_len), tf.float64))
    return spec.mask_rate + (spec.final_mask_rate - spec.mask_rate) * progress


class Masked(NamedTuple):
    """Ids with masks [B, L]; ascending positions and true ids [B, M], both 0 in unused slots; all int32."""

    input_ids: tf.Tensor
    positions: tf.Tensor
    ids: tf.Tensor


def mask(
    rows: nsp_pairs.Rows,
    draws: Draws,
    *,
    rate: tf.Tensor | float,
    mask_id: int,
    is_continuation: tf.Tensor | None = None,
) -> Masked:
    """Chooses max(1, round(rate x length)) text tokens a row, at most M, and hides them.

    80% become [MASK], 10% stay, 10% become `replacement`. The length counts [CLS] and [SEP]; only text is chosen.

    rows: token rows
    draws: their random numbers
    rate: share of a row's tokens that are chosen
    mask_id: id of [MASK]
    is_continuation: bool [V], true for pieces such as "##ing". If it is set, whole words are chosen, in random order.
        A word that would exceed the number is passed over, so a row may get fewer.
    """
    slots = draws.action.shape[1]
    # In float64 and half to even, as Python's round() does.
    count = tf.round(rate * tf.cast(rows.length, tf.float64))
    count = tf.minimum(tf.maximum(tf.cast(count, tf.int32), 1), slots)
    if is_continuation is None:
        chosen = _tokens(rows.is_text, draws.order, count, slots)
    else:
        chosen = _words(rows, draws.order, count, slots, is_continuation)
    return hide(rows.ids, tf.sort(chosen, axis=1), draws, mask_id)


class Examples(NamedTuple):
    """Rows that E examples share."""

    number: tf.Tensor  # [B, L], the example at each place
    text: tf.Tensor  # [B, E], tokens of text of each example
    length: tf.Tensor  # [B, E], all tokens of each example


def choose_by_example(
    examples: Examples, is_text: tf.Tensor, draws: Draws, *, rate: tf.Tensor | float, most: int
) -> tf.Tensor:
    """Chooses in each example as many text tokens as `mask` does in a row, at most `most`.

    Returns ascending places, int32 [B, M], L in empty slots.

    examples: the rows' examples
    is_text: bool [B, L]
    draws: random numbers of the rows
    rate: share of an example's tokens that are chosen
    """
    slots, L = draws.action.shape[1], is_text.shape[1]
    count = tf.cast(tf.round(rate * tf.cast(examples.length, tf.float64)), tf.int32)
    count = tf.where(examples.length > 0, tf.clip_by_value(count, 1, most), 0)
    # Sorted by example, then by `order`: a token's rank in its example is its place less the place of the first.
    order = tf.cast(examples.number, tf.float64) + tf.cast(draws.order, tf.float64)
    places = tf.argsort(tf.where(is_text, order, tf.float64.max), axis=1, stable=True)
    number = tf.gather(examples.number, places, batch_dims=1)
    begin = tf.cast(tf.cumsum(examples.text, axis=1, exclusive=True), tf.int32)
    rank = tf.range(L)[None] - tf.gather(begin, number, batch_dims=1)
    taken = tf.gather(is_text, places, batch_dims=1) & (rank < tf.gather(count, number, batch_dims=1))
    return tf.sort(tf.where(taken, places, L), axis=1)[:, :slots]


def hide(row_ids: tf.Tensor, chosen: tf.Tensor, draws: Draws, mask_id: int) -> Masked:
    """Hides the tokens at the chosen places.

    row_ids: int32 [B, L]
    chosen: int32 [B, M], ascending places, L in empty slots
    draws: random numbers of the rows
    mask_id: id of [MASK]
    """
    length = row_ids.shape[1]
    used = chosen < length
    positions = tf.where(used, chosen, 0)
    ids = tf.where(used, tf.gather(row_ids, positions, batch_dims=1), 0)
    hidden = tf.where(draws.action < 0.8, mask_id, tf.where(draws.action < 0.9, ids, draws.replacement))
    where = tf.where(used, positions + length * tf.range(tf.shape(positions)[0])[:, None], -1)
    flat = tf.reshape(row_ids, [-1])
    flat = tf.tensor_scatter_nd_update(flat, tf.boolean_mask(where, used)[:, None], tf.boolean_mask(hidden, used))
    return Masked(tf.reshape(flat, tf.shape(row_ids)), positions, ids)


def _tokens(is_text: tf.Tensor, order: tf.Tensor, count: tf.Tensor, slots: int) -> tf.Tensor:
    """Returns the places of the `count` [B] text tokens that come first in `order`, [B, slots]; L in empty slots."""
    rank, places = tf.math.top_k(tf.where(is_text, -order, -2.0), k=slots)
    chosen = (tf.range(slots)[None] < count[:, None]) & (rank > -2.0)  # a short row may have fewer than `count`
    return tf.where(chosen, places, is_text.shape[1])


def _words(
    rows: nsp_pairs.Rows, order: tf.Tensor, count: tf.Tensor, slots: int, is_continuation: tf.Tensor
) -> tf.Tensor:
    """Returns the places of whole words, in `order` while they fit into `count`, [B, slots]; L in empty slots."""
    length = rows.ids.shape[1]
    goes_on = tf.gather(is_continuation, rows.ids) & rows.is_text & tf.roll(rows.is_text, 1, axis=1)
    word = tf.cumsum(tf.cast(~goes_on, tf.int32), axis=1)
    begin, end = tf.searchsorted(word, word, side="left"), tf.searchsorted(word, word, side="right")
    # A word's tokens share the number at its index, and a stable sort keeps them in a row.
    key = tf.where(rows.is_text, tf.gather(order, word - 1, batch_dims=1), 2.0)
    places = tf.argsort(key, axis=1, stable=True)
    size = tf.gather(end - begin, places, batch_dims=1)
    to_end = tf.gather(end - 1, places, batch_dims=1) - places

    def take_words(alive: tf.Tensor, taken: tf.Tensor, used: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Takes the words before the first that does not fit, then drops all that never will."""
        end_count = used[:, None] + tf.cumsum(tf.cast(alive, tf.int32), axis=1) + to_end
        misfit = alive & (end_count > count[:, None])
        new = alive & (tf.cumsum(tf.cast(misfit, tf.int32), axis=1) == 0)
        used += tf.reduce_sum(tf.cast(new, tf.int32), axis=1)
        return alive & ~new & (size <= (count - used)[:, None]), taken | new, used

    alive = tf.gather(rows.is_text, places, batch_dims=1)
    _, taken, _ = tf.while_loop(
        lambda alive, taken, used: tf.reduce_any(alive), take_words, (alive, tf.zeros_like(alive), tf.zeros_like(count))
    )
    return tf.sort(tf.where(taken, places, length), axis=1)[:, :slots]
