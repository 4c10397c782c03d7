"""Masks against a plain Python transcription of create_masked_lm_predictions."""

import numpy as np
import pytest
import tensorflow as tf

from bert_tpu.data import masking, nsp_pairs

B, L, M, V, MASK = 2000, 64, 8, 1000, 4


@pytest.fixture(scope="module")
def batch():
    """Returns rows of all lengths with random text, and random numbers for them."""
    rng = np.random.default_rng(0)
    length = rng.integers(5, L + 1, B)
    ids = np.zeros((B, L), np.int32)
    is_text = np.zeros((B, L), bool)
    for r, n in enumerate(length):
        split = rng.integers(2, n - 2)
        ids[r, :n] = rng.integers(10, V, n)
        ids[r, [0, split, n - 1]] = 2, 3, 3
        is_text[r, 1 : n - 1] = True
        is_text[r, split] = False
    rows = nsp_pairs.Rows(tf.constant(ids), None, tf.constant(is_text), tf.constant(length, tf.int64))
    draws = masking.Draws(
        order=tf.constant(rng.random((B, L)), tf.float32),
        action=tf.constant(rng.random((B, M)), tf.float32),
        replacement=tf.constant(rng.integers(0, V, (B, M)), tf.int32),
    )
    return rows, draws


def numbers(masked):
    return [x.numpy() for x in masked]


def test_counts_and_places_are_the_originals(batch):
    rows, draws = batch
    _, positions, ids = numbers(masking.mask(rows, draws, rate=0.15, mask_id=MASK))
    before, is_text, length, order = (x.numpy() for x in (rows.ids, rows.is_text, rows.length, draws.order))
    for r in range(B):
        expected = min(M, max(1, round(int(length[r]) * 0.15)))
        text = np.flatnonzero(is_text[r])
        chosen = sorted(text[np.argsort(order[r, text])][:expected])
        assert positions[r, :expected].tolist() == chosen
        assert ids[r, :expected].tolist() == before[r, chosen].tolist()
        assert not positions[r, expected:].any()
        assert not ids[r, expected:].any()


def test_the_shortest_row_has_one_prediction():
    ids, is_text = tf.constant([[2, 11, 3, 0]]), tf.constant([[False, True, False, False]])
    draws = masking.Draws(order=tf.zeros((1, 4)), action=tf.zeros((1, 2)), replacement=tf.zeros((1, 2), tf.int32))
    rows = nsp_pairs.Rows(ids, None, is_text, tf.constant([3], tf.int64))
    hidden, positions, true = numbers(masking.mask(rows, draws, rate=0.15, mask_id=MASK))  # 0.15 x 3 rounds to 0
    assert (hidden.tolist(), positions.tolist(), true.tolist()) == ([[2, MASK, 3, 0]], [[1, 0]], [[11, 0]])


def test_special_tokens_and_padding_are_never_touched(batch):
    rows, draws = batch
    hidden, positions, ids = numbers(masking.mask(rows, draws, rate=0.9, mask_id=MASK))
    is_text, before = rows.is_text.numpy(), rows.ids.numpy()
    assert (hidden[~is_text] == before[~is_text]).all()
    assert np.take_along_axis(is_text, positions, axis=1)[ids > 0].all()


def test_eighty_ten_ten(batch):
    rows, draws = batch
    hidden, positions, ids = numbers(masking.mask(rows, draws, rate=0.15, mask_id=MASK))
    now = np.take_along_axis(hidden, positions, axis=1)[ids > 0]
    true = ids[ids > 0]
    n = len(true)
    for share, expected in (
        ((now == MASK).mean(), 0.8 + 0.1 / V),
        ((now == true).mean(), 0.1 + 0.1 / V),
        (((now != true) & (now != MASK)).mean(), 0.1),
    ):
        assert abs(share - expected) < 4 * (expected * (1 - expected) / n) ** 0.5
    replaced = now[(now != true) & (now != MASK)]
    assert replaced.min() < 0.02 * V  # uniform over the whole vocabulary, special ids included
    assert replaced.max() > 0.98 * V


def words_of(ids, is_text, is_continuation):
    """Returns the places of each word: a piece and the continuations after it."""
    words = []
    for i in np.flatnonzero(is_text):
        if is_continuation[ids[i]] and is_text[i - 1]:
            words[-1].append(i)
        else:
            words.append([i])
    return words


def test_whole_words_are_the_greedy_choice(batch):
    rows, draws = batch
    is_continuation = np.arange(V) % 3 == 0
    _, positions, ids = numbers(
        masking.mask(rows, draws, rate=0.15, mask_id=MASK, is_continuation=tf.constant(is_continuation))
    )
    before, is_text = rows.ids.numpy(), rows.is_text.numpy()
    for r in range(B):
        count = min(M, max(1, round(int(rows.length[r]) * 0.15)))
        words = words_of(before[r], is_text[r], is_continuation)
        chosen = set(positions[r][ids[r] > 0].tolist())
        assert len(chosen) <= count
        assert all(chosen.issuperset(word) or chosen.isdisjoint(word) for word in words)
        # Greedy: no word that was passed over would still fit.
        left = count - len(chosen)
        assert all(len(word) > left for word in words if chosen.isdisjoint(word))


def test_whole_words_are_chosen_in_the_order_drawn():
    # a b ##b c: words of 1, 2, 1; two may be chosen. With b first, b alone; with a first, then b passed over, c.
    ids = tf.constant([[2, 11, 13, 12, 14, 3]] * 2, tf.int32)
    is_text = tf.constant([[False, True, True, True, True, False]] * 2)
    is_continuation = tf.constant(np.arange(V) == 12)
    rows = nsp_pairs.Rows(ids, None, is_text, tf.constant([12, 12], tf.int64))  # 0.15 x 12 rounds to 2
    # The numbers at the words' own indices: [CLS] 0, a 1, b 2, c 3.
    order = tf.constant([[0.0, 0.5, 0.1, 0.6, 0, 0], [0.0, 0.1, 0.5, 0.6, 0, 0]], tf.float32)
    draws = masking.Draws(order, tf.zeros((2, 3)), tf.zeros((2, 3), tf.int32))
    masked = masking.mask(rows, draws, rate=0.15, mask_id=MASK, is_continuation=is_continuation)
    assert masked.positions.numpy().tolist() == [[2, 3, 0], [1, 4, 0]]
