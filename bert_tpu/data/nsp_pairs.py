"""Chunks -> rows `[CLS] A [SEP] B [SEP]`, a whole batch at a time, by the rules of create_pretraining_data.py.

Without NSP a row is a single segment, `[CLS] A [SEP]`.

Letters: B batch  L tokens. A span is a pair (first token, length) into the corpus' tokens.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from bert_tpu.data import chunks
from bert_tpu.tokenizer import vocab

COIN_WORDS = 8  # 512 coins a row; of a longer excess, which is rare, the rest is cut half and half


class Draws(NamedTuple):
    """Random numbers of each row: two [B] in [0, 1), and `coins` [B, COIN_WORDS], 64 fair bits each."""

    other_document: tf.Tensor
    other_sentence: tf.Tensor
    coins: tf.Tensor


class Visit(NamedTuple):
    """How each row shows its chunk; [B] each."""

    chunk: tf.Tensor  # number in its group
    is_random: tf.Tensor  # True if B comes from another text
    is_tail: tf.Tensor  # True if A is the part after the split; only where B is random
    split: tf.Tensor  # in [0, 1)


class OtherTexts(NamedTuple):
    """For each of D documents, the documents of its group that come from another text.

    Within a group, `order` has the documents of one origin next to each other. A document's own origin has
    `own_count` documents, from order[base + own_first] on, where `base` is the group's first document. The others of
    the group are its other texts.
    """

    group: np.ndarray  # int64 [D]
    order: np.ndarray  # int64 [D]
    own_first: np.ndarray  # int64 [D]
    own_count: np.ndarray  # int64 [D]


def other_texts(origins: np.ndarray, group_start: np.ndarray) -> OtherTexts:
    """Returns the OtherTexts of D documents.

    origins: [D], the number of the text that each document comes from
    group_start: [groups + 1]; group g has the documents group_start[g] .. group_start[g + 1] - 1
    """
    group = np.repeat(np.arange(len(group_start) - 1), np.diff(group_start))
    order = np.lexsort((origins, group))
    begins = np.flatnonzero(np.diff(origins[order], prepend=-1) | np.diff(group, prepend=-1))
    counts = np.diff(np.append(begins, len(order)))
    first, count = np.empty(len(order), np.int64), np.empty(len(order), np.int64)
    first[order], count[order] = np.repeat(begins, counts), np.repeat(counts, counts)
    return OtherTexts(group, order, first - np.asarray(group_start)[group], count)


class Candidates(NamedTuple):
    """The documents from which a random B of each row is drawn: those of the row's group."""

    texts: OtherTexts  # of all documents
    first_document: tf.Tensor  # int64 [B], the first of the group
    num_documents: tf.Tensor  # int64 [B], in the group


class Pairs(NamedTuple):
    """Spans of A and B of each row, and whether B is from another text; [B] each. A single segment has an empty B."""

    a_first: tf.Tensor
    a_length: tf.Tensor
    b_first: tf.Tensor
    b_length: tf.Tensor
    is_random: tf.Tensor


def choose(
    text: chunks.Text,
    chunk: chunks.Chunks,
    visit: Visit,
    candidates: Candidates,
    draws: Draws,
    *,
    max_tokens: tf.Tensor | int,
    extra_documents: tf.Tensor | None = None,
) -> Pairs:
    """Makes a pair of each chunk.

    text: the corpus, as tensors
    chunk: the batch's chunks, [B] each
    visit: how each row shows its chunk
    candidates: documents for a random B
    draws: the rows' random numbers
    max_tokens: tokens of A and B together, the row's length less its three special tokens; one number or [B]
    extra_documents: [B, N] in [0, 1), draws of N further documents. They make a random B as long as wanted where
        possible: it comes from the first document that is long enough, or else from the longest, and begins early
        enough in it.
    """
    starts = text.sentence_start
    middle = chunk.first + 1 + _below(visit.split, tf.maximum(chunk.last - chunk.first - 1, 1))
    a_first = tf.gather(starts, tf.where(visit.is_tail, middle, chunk.first))
    a_end = tf.gather(starts, tf.where(visit.is_tail, chunk.last, middle))
    wanted = chunk.target - (a_end - a_first)
    other_first, other_end = _random_span(text, chunk.document, candidates, draws, wanted, extra_documents)
    b_first = tf.where(visit.is_random, other_first, a_end)
    b_end = tf.where(visit.is_random, other_end, tf.gather(starts, chunk.last))
    pairs = Pairs(a_first, a_end - a_first, b_first, b_end - b_first, visit.is_random)
    return _truncate(pairs, draws.coins, max_tokens)


def single(text: chunks.Text, chunk: chunks.Chunks, draws: Draws, *, max_tokens: tf.Tensor | int) -> Pairs:
    """Makes a single segment of each chunk, its whole text. The arguments are those of `choose`."""
    first, end = tf.gather(text.sentence_start, chunk.first), tf.gather(text.sentence_start, chunk.last)
    nothing = tf.zeros_like(first)
    return _truncate(Pairs(first, end - first, end, nothing, tf.cast(nothing, tf.bool)), draws.coins, max_tokens)


def labels(pairs: Pairs) -> tf.Tensor:
    """Returns next_sentence_label of each pair: 1 where B is random, 0 where it follows, -1 for a single segment."""
    return tf.where(pairs.b_length > 0, tf.cast(pairs.is_random, tf.int32), -1)


def _random_span(
    text: chunks.Text,
    own: tf.Tensor,
    candidates: Candidates,
    draws: Draws,
    wanted: tf.Tensor,
    extra_documents: tf.Tensor | None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns (first token, end) of about `wanted` tokens from a random sentence of another text's document, [B].

    own: [B], the row's document; the other arguments are those of `choose`
    """
    texts, base, count = candidates
    own_first, own_count = (tf.gather(column, own)[:, None] for column in (texts.own_first, texts.own_count))
    uniform = draws.other_document[:, None]
    if extra_documents is not None:
        uniform = tf.concat([uniform, extra_documents], 1)
    place = _below(uniform, count[:, None] - own_count)
    place += tf.where(place >= own_first, own_count, 0)
    other = tf.gather(texts.order, base[:, None] + place)
    if extra_documents is None:
        other = other[:, 0]
    else:
        bounds = (tf.gather(text.sentence_start, tf.gather(text.document_start, other + i)) for i in (1, 0))
        size = tf.minimum(tf.subtract(*bounds), wanted[:, None])
        other = tf.gather(other, tf.argmax(size, axis=1), batch_dims=1)  # the first of equal ones
    first, end = tf.gather(text.document_start, other), tf.gather(text.document_start, other + 1)
    start = first + _below(draws.other_sentence, end - first)
    if extra_documents is not None:
        latest = _reach(text.sentence_start, tf.gather(text.sentence_start, end) - wanted + 1) - 1
        start = tf.minimum(start, tf.maximum(first, latest))
    start_token = tf.gather(text.sentence_start, start)
    # At least one sentence, however long A is already.
    last = tf.minimum(end, _reach(text.sentence_start, start_token + tf.maximum(wanted, 1)))
    return start_token, tf.gather(text.sentence_start, last)


def _reach(sentence_start: tf.Tensor, token: tf.Tensor) -> tf.Tensor:
    """Returns the index of the first sentence boundary at or after `token`."""
    return tf.searchsorted(sentence_start, token, side="left", out_type=tf.int64)


def _below(uniform: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Turns numbers in [0, 1) into integers 0 .. count - 1."""
    count = tf.cast(count, tf.int64)
    return tf.minimum(tf.cast(uniform * tf.cast(count, uniform.dtype), tf.int64), count - 1)


def _truncate(pairs: Pairs, coins: tf.Tensor, max_tokens: tf.Tensor | int) -> Pairs:
    """Removes tokens from the longer side (B if they are equal), each from front or back by a coin."""
    a, b = pairs.a_length, pairs.b_length
    excess = tf.maximum(a + b - max_tokens, 0)
    # First the longer side comes down to the other; then tokens go in turns, B first.
    from_a = tf.minimum(excess, tf.maximum(a - b, 0))
    from_b = tf.minimum(excess, tf.maximum(b - a, 0))
    rest = excess - from_a - from_b
    from_a, from_b = from_a + rest // 2, from_b + (rest + 1) // 2
    # A takes its coins from the front and B from the back, so that they meet only when 512 tokens go.
    a_front, b_front = _heads(from_a, coins), _heads(from_b, tf.reverse(coins, axis=[1]))
    return pairs._replace(
        a_first=pairs.a_first + a_front, a_length=a - from_a, b_first=pairs.b_first + b_front, b_length=b - from_b
    )


def _heads(tosses: tf.Tensor, coins: tf.Tensor) -> tf.Tensor:
    """Counts heads among the first `tosses` coins: a binomial draw with probability one half."""
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


def lay_out(tokens: tf.Tensor, pairs: Pairs, special: vocab.Ids, *, seq_len: int) -> Rows:
    """Lays each pair out as `[CLS] A [SEP] B [SEP]`, or `[CLS] A [SEP]` without B, and padding.

    tokens: uint16 [N], the corpus
    pairs: the spans of each row
    special: ids of the special tokens
    seq_len: L
    """
    place = tf.range(seq_len, dtype=tf.int64)[None]
    columns = Pairs(*(x[:, None] for x in pairs))
    ids, types, is_text = place_tokens(tokens, place, columns, special)
    return Rows(ids, types, is_text, lengths(pairs))


def lengths(pairs: Pairs) -> tf.Tensor:
    """Returns the tokens of each laid-out pair, with its special ones."""
    return pairs.a_length + pairs.b_length + tf.where(pairs.b_length > 0, tf.constant(3, tf.int64), 2)


def place_tokens(
    tokens: tf.Tensor, place: tf.Tensor, pairs: Pairs, special: vocab.Ids
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns (ids int32, types int32, is_text bool) at each place, [B, L].

    tokens: uint16 [N], the corpus
    place: int64 [B, L], the place within its pair, counted from [CLS]; padding comes after the last [SEP]
    pairs: the pair of each place, of shapes that broadcast with `place`
    special: ids of the special tokens
    """
    a, b = pairs.a_length, pairs.b_length
    in_a, in_b = (place >= 1) & (place <= a), (place >= a + 2) & (place <= a + b + 1)
    source = tf.where(in_a, pairs.a_first + place - 1, pairs.b_first + place - a - 2)
    is_text = in_a | in_b
    ids = tf.cast(tf.gather(tokens, tf.where(is_text, source, 0)), tf.int32)
    has_b = b > 0
    is_sep = (place == a + 1) | (has_b & (place == a + b + 2))
    rest = tf.where(is_sep, special.sep, tf.where(place == 0, special.cls, special.pad))
    types = tf.cast(has_b & (place >= a + 2) & (place <= a + b + 2), tf.int32)
    return tf.where(is_text, ids, rest), types, is_text
