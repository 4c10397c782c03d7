"""Texts become the rows that transformers makes of them, for any content and any cut."""

import random

from helpers.token_row_cases import LETTERS, VOCABULARY, split
from hypothesis import HealthCheck, assume, given, settings, strategies
import numpy as np
import pytest
import transformers

from bert_tpu.core import command
from bert_tpu.data import token_rows
from bert_tpu.tokenizer import vocab


@pytest.fixture(scope="module")
def fast(tmp_path_factory):
    """Returns transformers' fast tokenizer with the same pieces."""
    directory = tmp_path_factory.mktemp("fast")
    vocab.save(VOCABULARY, directory)
    return transformers.AutoTokenizer.from_pretrained(directory)


def encode(texts, pairs, max_length=16):
    labels = np.arange(len(texts), dtype=np.int32)
    return token_rows.encode(texts, pairs, labels, max_length=max_length, vocabulary=VOCABULARY)


def words(lengths):
    return [" ".join(random.choices(LETTERS, k=length)) for length in lengths]


def google(a, b, room):
    """Returns the lengths after _truncate_seq_pair (google-research/bert, run_classifier.py)."""
    while a + b > room:
        a, b = (a - 1, b) if a > b else (a, b - 1)
    return a, b


@pytest.mark.parametrize("max_length", range(5, 24))
def test_pairs_are_those_of_transformers_at_every_cut_and_tie(fast, max_length):
    random.seed(max_length)
    lengths = [(a, b) for a in range(16) for b in range(16)]
    texts, pairs = (words(column) for column in zip(*lengths, strict=True))
    rows = encode(texts, pairs, max_length)
    expected = fast(texts, pairs, truncation=True, max_length=max_length)
    assert split(rows) == list(zip(expected["input_ids"], expected["token_type_ids"], strict=True))
    assert rows.lengths.max() == max_length
    assert (rows.lengths + rows.lost).tolist() == [a + b + 3 for a, b in lengths]
    # They differ from Google's cut by the odd token alone, and only if the first text is not the longer.
    room = max_length - 3
    for (a, b), (_, types) in zip(lengths, split(rows), strict=True):
        kept = types.count(0) - 2, types.count(1) - 1
        odd = room % 2 and room // 2 < a <= b
        assert google(a, b, room) == ((kept[0] + 1, kept[1] - 1) if odd else kept)


def test_single_texts_are_those_of_transformers(fast):
    texts = ["", "a", "abcabc abc", " ".join(LETTERS * 2), "a. b.", "ünknown \u200b \ufffd", "a\u0000b\tc\nd\re"]
    expected = fast(texts, truncation=True, max_length=16)
    assert split(encode(texts, None)) == list(zip(expected["input_ids"], expected["token_type_ids"], strict=True))


def test_special_tokens_in_a_text_are_ordinary_words():
    ids = {piece: i for i, piece in enumerate(VOCABULARY.pieces)}
    ((row_ids, types),) = split(encode(["a [SEP] b"], ["[CLS]"]))
    around = ["[CLS]", "a", "[", "sep", "]", "b", "[SEP]", "[", "cls", "]", "[SEP]"]
    assert row_ids == [ids[piece] for piece in around]
    assert types == [0] * 7 + [1] * 4


def test_rows_are_one_after_the_other_over_all_chunks(monkeypatch):
    random.seed(0)
    texts, pairs = words(range(20)), words(range(20, 0, -1))
    whole = encode(texts, pairs)
    monkeypatch.setattr(token_rows, "CHUNK", 7)
    for a, b in zip(whole, encode(texts, pairs), strict=True):
        assert a.dtype == b.dtype
        assert (a == b).all()
    assert [array.dtype for array in whole] == [np.uint16, np.uint8, np.int64, np.int32, np.int64]
    assert whole.starts[-1] == len(whole.ids) == len(whole.types)


def test_no_texts_give_no_rows():
    assert encode([], None).starts.tolist() == [0]
    assert token_rows.Rows(*encode([], [])).lengths.size == 0


def test_a_length_without_room_is_refused():
    with pytest.raises(command.UserError, match="max_length 4"):
        encode(["a"], ["b"], 4)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(strategies.lists(strategies.tuples(strategies.text(), strategies.text()), max_size=4))
def test_any_text_gives_the_rows_of_transformers(fast, pairs):
    # transformers reads a raw "[SEP]" as the special piece; by Google's rules it is three words.
    assume(not any(name in text for pair in pairs for text in pair for name in vocab.SPECIALS))
    texts, others = [a for a, _ in pairs], [b for _, b in pairs]
    expected = fast(texts, others, truncation=True, max_length=16) if pairs else {"input_ids": [], "token_type_ids": []}
    assert split(encode(texts, others)) == list(zip(expected["input_ids"], expected["token_type_ids"], strict=True))
