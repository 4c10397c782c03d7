"""Chunks -> rows `[CLS] A [SEP] B [SEP]`, a whole batch at a time, by the rules of create_pretraining_data.py.

Letters: B batch  L tokens. A span is a pair (first token, length) into the corpus' tokens.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

COIN_WORDS = 8  # 512 coins a row; of a longer excess, rare, the rest is cut half and half


class Draws(NamedTuple):
    """One row's random numbers, each [B] in [0, 1), and `coins` [B, COIN_WORDS], 64 fair bits each."""

    other_document: tf.Tensor
    other_sentence: tf.Tensor
    coins: tf.Tensor


class OtherTexts(NamedTuple):
    """The documents of other texts, for each document of D: those of its group but those of its own origin.

    Within a group `order` has the documents of one origin next to each other: its own are order[base + first] and the
    `count` - 1 behind it, where `base` is the group's first document.
    """

    group: np.ndarray  # int64 [D]
    order: np.ndarray  # int64 [D]
    first: np.ndarray  # int64 [D]
    count: np.ndarray  # int64 [D]


def other_texts(origins, group_start) -> OtherTexts:
    """The Others of documents with these origins, [D]; group g has the documents group_start[g] .. - 1 of the next."""
    group = np.repeat(np.arange(len(group_start) - 1), np.diff(group_start))
    order = np.lexsort((origins, group))
    begins = np.flatnonzero(np.diff(origins[order], prepend=-1) | np.diff(group, prepend=-1))
    counts = np.diff(np.append(begins, len(order)))
    first, count = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    first[order], count[order] = np.repeat(begins, counts), np.repeat(counts, counts)
    return OtherTexts(group, order, first - np.asarray(group_start)[group], count)


class Pairs(NamedTuple):
    """Where A and B of each row lie, and whether B is from another text; each [B]."""

    a_first: tf.Tensor
    a_length: tf.Tensor
    b_first: tf.Tensor
    b_length: tf.Tensor
    is_random: tf.Tensor


def choose(text, chunk, visit, candidates, draws, *, max_tokens, more=None) -> Pairs:
    """Makes a pair of each chunk.

    - text: a chunks.Text of tensors.
    - chunk: the batch's chunks.Chunks, each [B].
    - visit: how each row shows its chunk, a visits.Visit.
    - candidates: Others of all documents, and [B] each the first document and the number of documents of the row's
      group, among which a random B is drawn.
    - max_tokens: tokens of A and B together, the row's length less its three special tokens; or of each row, [B].
    - more: numbers [B, N] in [0, 1) for more documents, if a random B shall be as long as is wanted where it can. It
      comes from the first that is long enough, or else from the longest, and begins before it would end too soon.
    """
    starts = text.sentence_start
    middle = chunk.first + 1 + _below(visit.split, tf.maximum(chunk.last - chunk.first - 1, 1))
    a_first = tf.gather(starts, tf.where(visit.is_tail, middle, chunk.first))
    a_end = tf.gather(starts, tf.where(visit.is_tail, chunk.last, middle))
    wanted = chunk.target - (a_end - a_first)
    other_first, other_end = _elsewhere(text, chunk.document, candidates, draws, wanted, more)
    b_first = tf.where(visit.is_random, other_first, a_end)
    b_end = tf.where(visit.is_random, other_end, tf.gather(starts, chunk.last))
    pairs = Pairs(a_first, a_end - a_first, b_first, b_end - b_first, visit.is_random)
    return _truncate(pairs, draws.coins, max_tokens)


def _elsewhere(text, own, candidates, draws, wanted, more):
    """Tokens of a random document of another text, from a random sentence on until `wanted` are there."""
    of_origin, base, count = candidates
    own_first, own_count = (tf.gather(column, own)[:, None] for column in (of_origin.first, of_origin.count))
    drawn = draws.other_document[:, None] if more is None else tf.concat([draws.other_document[:, None], more], 1)
    place = _below(drawn, count[:, None] - own_count)
    place += tf.where(place >= own_first, own_count, 0)
    other = tf.gather(of_origin.order, base[:, None] + place)
    if more is None:
        other = other[:, 0]
    else:
        bounds = (tf.gather(text.sentence_start, tf.gather(text.document_start, other + i)) for i in (1, 0))
        size = tf.minimum(tf.subtract(*bounds), wanted[:, None])
        other = tf.gather(other, tf.argmax(size, axis=1), batch_dims=1)  # of equal ones the first
    first, end = tf.gather(text.document_start, other), tf.gather(text.document_start, other + 1)
    start = first + _below(draws.other_sentence, end - first)
    if more is not None:
        latest = _reach(text.sentence_start, tf.gather(text.sentence_start, end) - wanted + 1) - 1
        start = tf.minimum(start, tf.maximum(first, latest))
    start_token = tf.gather(text.sentence_start, start)
    # At least one sentence, however long A is already.
    last = tf.minimum(end, _reach(text.sentence_start, start_token + tf.maximum(wanted, 1)))
    return start_token, tf.gather(text.sentence_start, last)


def _reach(sentence_start, token):
    """Index of the first boundary at or behind `token`."""
    return tf.searchsorted(sentence_start, token, side="left", out_type=tf.int64)


def _below(uniform, count):
    """Integers 0 .. count - 1 from numbers in [0, 1)."""
    count = tf.cast(count, tf.int64)
    return tf.minimum(tf.cast(uniform * tf.cast(count, uniform.dtype), tf.int64), count - 1)


def _truncate(pairs, coins, max_tokens) -> Pairs:
    """Removes tokens from the longer side (B where they are equal), each from front or back by a coin."""
    a, b = pairs.a_length, pairs.b_length
    excess = tf.maximum(a + b - max_tokens, 0)
    # First the longer side comes down to the other; what is left goes in turns, B first.
    from_a = tf.minimum(excess, tf.maximum(a - b, 0))
    from_b = tf.minimum(excess, tf.maximum(b - a, 0))
    rest = excess - from_a - from_b
    from_a, from_b = from_a + rest // 2, from_b + (rest + 1) // 2
    # A takes its coins from the front and B from the back, so that they meet only where 512 tokens go.
    a_front, b_front = _heads(from_a, coins), _heads(from_b, tf.reverse(coins, axis=[1]))
    return pairs._replace(
        a_first=pairs.a_first + a_front, a_length=a - from_a, b_first=pairs.b_first + b_front, b_length=b - from_b
    )


def _heads(tosses, coins):
    """Heads among the first `tosses` coins: a binomial draw with probability one half."""
    bits = tf.clip_by_value(tosses[:, None] - 64 * tf.range(COIN_WORDS, dtype=tf.int64), 0, 64)
    # A shift by 64 is undefined, so the full word is written as -1.
    low = tf.bitwise.left_shift(tf.ones_like(bits), tf.minimum(bits, 63)) - 1
    mask = tf.where(bits == 64, tf.constant(-1, tf.int64), low)
    heads = tf.reduce_sum(tf.cast(tf.raw_ops.PopulationCount(x=coins & mask), tf.int64), axis=1)
    return heads + tf.maximum(tosses - 64 * COIN_WORDS, 0) // 2


class Rows(NamedTuple):
    """Token rows before masking: `ids` and `types` int32 [B, L], `is_text` bool [B, L], `length` int64 [B]."""

    ids: tf.Tensor
    types: tf.Tensor
    is_text: tf.Tensor
    length: tf.Tensor


def lay_out(tokens, pairs, special, *, seq_len) -> Rows:
    """Lays each pair out as `[CLS] A [SEP] B [SEP]` and padding; `special`: vocab.Ids."""
    place = tf.range(seq_len, dtype=tf.int64)[None]
    each = Pairs(*(x[:, None] for x in pairs))
    return Rows(*place_tokens(tokens, place, each, special), pairs.a_length + pairs.b_length + 3)


def place_tokens(tokens, place, pairs, special):
    """(ids, types, is_text) at `place` of its pair, counted from [CLS]; one behind it all holds padding.

    pairs: of each place, or with dimensions that broadcast.
    """
    a, b = pairs.a_length, pairs.b_length
    in_a, in_b = (place >= 1) & (place <= a), (place >= a + 2) & (place <= a + b + 1)
    source = tf.where(in_a, pairs.a_first + place - 1, pairs.b_first + place - a - 2)
    is_text = in_a | in_b
    ids = tf.cast(tf.gather(tokens, tf.where(is_text, source, 0)), tf.int32)
    is_sep = (place == a + 1) | (place == a + b + 2)
    rest = tf.where(is_sep, special.sep, tf.where(place == 0, special.cls, special.pad))
    types = tf.cast((place >= a + 2) & (place <= a + b + 2), tf.int32)
    return tf.where(is_text, ids, rest), types, is_text
