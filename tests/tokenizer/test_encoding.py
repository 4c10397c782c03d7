"""Words that are encoded once, in parts and many at a time, have the ids that the tokenizer gives to the whole text."""

import types

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from bert_tpu.tokenizer import added_tokens, encoding, normalization, vocab, wordpiece

LETTERS = "abcABC12σς.,'#[]中é"  # no piece for "-", "_" and "x", which are [UNK] with their words
PIECES = (*wordpiece.LAYOUT, *LETTERS, *(f"##{letter}" for letter in LETTERS), "##", "ab", "##ca", "abc", "##[", "#a")
PARTS = strategies.sampled_from(
    [*"aAbBcC12.,'#-_x[]{~", "Σ", "σ", "é", "\u0301", "中", "の", "\u200b", "\ue000", "\0", "\x7f", "\t", "\n",
     "\u3000", " ", " ", " ", "  ", "aaaa", "abcab", "[MASK]", "[PAD]", "##a", "<w>", "ab c", "a" * 201, "1" * 1001]
)  # fmt: skip
ADDED = {
    "none": (),
    "word": (added_tokens.AddedToken("abc"),),
    "part": (added_tokens.AddedToken("<w>", normalized=False), added_tokens.AddedToken("b.c", single_word=True)),
    "space": (added_tokens.AddedToken("ab c"), added_tokens.AddedToken("<w>", lstrip=True)),
}
RULES = (
    normalization.GOOGLE_RULES,
    normalization.BERT_TOKENIZER,
    normalization.Rules(clean=normalization.KEEP, strip_accents=True, chinese=False, max_chars=3),
    normalization.Rules(strip_accents=False, max_chars=4),
)


@pytest.mark.parametrize("added", ADDED)
@hypothesis.settings(max_examples=80, deadline=None)
@hypothesis.given(
    lower=strategies.booleans(),
    rules=strategies.sampled_from(RULES),
    unknown=strategies.sampled_from(["[UNK]", "##unk", "ab"]),
    texts=strategies.lists(strategies.lists(PARTS, max_size=12).map("".join), max_size=6),
)
def test_encoding_in_parts_equals_encoding_whole_texts(added, lower, rules, unknown, texts):
    pieces = (*(piece for piece in PIECES if piece not in ("[UNK]", unknown)), unknown)
    pieces += tuple(token.content for token in ADDED[added] if token.content not in pieces)
    tokens = tuple(token._replace(is_piece=token.content in PIECES) for token in ADDED[added])
    specials = ("[PAD]", unknown, *vocab.SPECIALS[2:])
    vocabulary = vocab.Vocab(pieces, lower, rules, tokens, specials)
    encoder, plain = encoding.Encoder(vocabulary), vocab.tokenizer(vocabulary)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "RUNS_AT_ONCE", 3)
        for batch in (texts[:3], texts):  # the second time, some words and parts were seen before
            got = [np.frombuffer(code, encoder.dtype).tolist() for code in encoder.encode(batch)]
            assert got == [plain.encode(text, add_special_tokens=False).ids for text in batch]


def test_ids_of_32_bits_are_cut_between_words():
    vocabulary = vocab.Vocab((*PIECES, *(f"q{i}" for i in range(vocab.MAX_PIECES))), lower=True)
    (code,) = encoding.Encoder(vocabulary).encode(["q65000, abcca q1"])
    assert np.frombuffer(code, np.uint32).tolist() == vocab.tokenizer(vocabulary).encode("q65000, abcca q1").ids


def test_a_new_word_of_known_parts_needs_no_tokenizer():
    encoder = encoding.Encoder(vocab.Vocab(PIECES, lower=True))
    expected = encoder.encode(["abc , 12 # ab"])[0]
    asked: list[str] = []
    encoder.tokenizer = types.SimpleNamespace(encode_batch_fast=lambda texts, **_: asked.extend(texts) or [])
    assert encoder.encode(["Abc,12#AB"]) == [expected]
    assert not asked
