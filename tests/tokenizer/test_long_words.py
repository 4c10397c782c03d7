"""Words that are [UNK] for their length take little time and memory, and no piece of a trained vocabulary."""

import re

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from bert_tpu.tokenizer import encoding, long_words, normalization, vocab, wordpiece

LETTERS = "abcdefghijklmnopqrstuvwxyzσς.;,'中"
VOCABULARY = vocab.Vocab((*wordpiece.LAYOUT, *LETTERS, *(f"##{letter}" for letter in LETTERS)), True)
PARTS = strategies.sampled_from(
    [
        "a",
        "Σ",
        "'",
        ";",
        ",",
        ".",
        "中",
        "\u0301",
        "\u200b",
        "_",
        "한",
        "é",
        "q" * 201,
        "b" * 199,
        "の" * 90,
        "ab;" * 30,
    ]
)


def segments_of(size):
    """The pattern of segments of at most `size` characters."""
    return re.compile(long_words.SEGMENTS.pattern.replace(str(long_words.SEGMENT - 1), str(size - 1)))


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("chinese", [True, False])
@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(parts=strategies.lists(PARTS, min_size=1, max_size=12))
def test_a_long_word_has_the_ids_that_it_has_as_a_whole(lower, chinese, parts):
    word = ("".join(parts) * 1001)[: max(1001, 2 * len("".join(parts)))]
    vocabulary = VOCABULARY._replace(lower=lower)
    if not chinese:
        vocabulary = vocabulary._replace(rules=normalization.BERT_TOKENIZER._replace(chinese=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_words, "SEGMENTS", segments_of(40))
        (code,) = encoding.Encoder(vocabulary).encode([word])
    assert np.frombuffer(code, np.uint16).tolist() == vocab.tokenizer(vocabulary).encode(word).ids


def test_a_long_word_is_not_remembered_and_is_found_among_others():
    encoder = encoding.Encoder(VOCABULARY)
    long = "x" * 2000
    codes = encoder.encode([f"a {long} b", long, "a"])
    assert [np.frombuffer(code, np.uint16).tolist() for code in codes] == [
        [104, 100, 105], [100], [104],
    ]  # fmt: skip
    assert set(encoder.memo) == {"a", "b"}


def test_sixteen_million_characters_are_encoded_in_no_time():
    encoder = encoding.Encoder(VOCABULARY)
    codes = encoder.encode(["ACGT" * 4_000_000, "の" * 4_000_000])
    assert [np.frombuffer(code, np.uint16).tolist() for code in codes] == [[100], [100]]


def test_a_vocabulary_is_trained_without_words_that_are_too_long():
    lines = ["the quick brown fox jumps over the lazy dog"] * 50
    long = ["A" * 1_000_000, "acgt" * 250_000, "の" * 300_000, "x" * 100 + "한" * 67, "b" * 201]
    plain = wordpiece.train(lambda: [*lines, "fox,;the" + "y" * 200, "é" * 200], 172)
    text = [*lines, *long, "fox," + "b" * 10**6 + ";the" + "y" * 200, "é" * 200]
    assert wordpiece.train(lambda: text, 172) == plain
    assert wordpiece.train(lambda: [" ".join(text)], 172) == plain


@pytest.mark.parametrize("text", ["a b" * 40_000, "word " * 30_000, "中" * 70_000, "x" * 70_000 + " y"])
def test_lines_of_many_characters_are_cut_at_spaces_and_lose_only_long_words(text):
    normalizer = normalization.normalizer(lower=True)
    words = [word for line in long_words.lines_without(text, 200, normalizer) for word in line.split()]
    if text[0] == "中":
        assert "".join(words) == text
    else:
        assert words == [word for word in text.split() if len(word) <= 200]
