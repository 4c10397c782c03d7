"""Lines are split as nupunkt splits them, wherever marks, abbreviations, quotes, numbers and lists come together."""

import hypothesis
from hypothesis import strategies
import nupunkt

from bert_tpu.corpus import english

MARKED = [
    "Mr.", "U.S.", "e.g.", "No.", "no.", "p.m.", "Inc.", "etc.", "b.", "B.", "vi.", "Vi.", "IV.", "I.", "12.", "1990.",
    "1.", "(a).", "IV).", "word.", "York.", "word?", "word!", "Next.", "(Foo.", "word).", 'word."', 'word?"', "word.”",
    "word.’", '"Stop!"', "'word.'", "word.]", "word.--", "word\u2026", "foo?)bar!", "foo.bar?", "straße.", "ΟΔΟΣ.",
    "...", ".", "?", "!", "!!", "?!", "\u2026", ".)", '."', "well-known.", "“Mr.", "“word.", "x2.",
    "2\u00b2.", "word.Next",
]  # fmt: skip
PLAIN = [
    "the", "The", "A", "I", "It's", "Boys'", "He", "McNamara", "Éa", "Next", "Next,", "Next)", '"Oh,', "(Foo", "“Oh",
    "Pmid", "Lipson", "Kanders", "Lang", "Medina", "1990", "2.5", "$5.50", "-", "--", "—", "*", '"', "'", "(", ")", "",
    "\t", "\xa0",
]  # fmt: skip
WORDS = strategies.tuples(strategies.sampled_from(MARKED) | strategies.sampled_from(PLAIN), strategies.booleans())
LINES = strategies.lists(WORDS, min_size=2, max_size=30)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(words=LINES, rare=strategies.sampled_from(["", "  ", "\u3000"]))
def test_a_line_is_split_as_by_nupunkt(words, rare):
    line = "".join(word + (" " if has_space or i % 3 else rare) for i, (word, has_space) in enumerate(words))
    assert english.splitter()(line) == nupunkt.load("default").tokenize(line)


def test_each_abbreviation_and_collocation_is_left_to_nupunkt():
    tokenizer = nupunkt.load("default")
    pairs = [(first, second) for first, second in tokenizer.parameters.collocations if second.isalpha()]
    pairs = [("1990" if first == "##number##" else first, second) for first, second in pairs]
    pairs += [(abbreviation, "the") for abbreviation in tokenizer.abbreviations]
    lines = [f"It is clear to all {word}. {following.capitalize()} is here. Yes." for word, following in pairs]
    split = english.splitter()
    assert [split(line) for line in lines] == [tokenizer.tokenize(line) for line in lines]


def test_nupunkt_is_asked_only_where_an_end_is_in_doubt(monkeypatch):
    english.splitter()
    asked = []
    monkeypatch.setattr(type(nupunkt.load("default")), "tokenize", lambda _, text: asked.append(text) or [text])
    sure = ["The old mill stood there.", '"It is mine," she said in 1990.', "Is it yours?", "(We do not know.)"]
    assert english.splitter()(" ".join([*sure, "Mr. Brown knows."])) == [
        *sure[:3],
        "(We do not know.) Mr. Brown knows.",
    ]
    assert asked == ["(We do not know.) Mr. Brown knows."]


def test_the_mark_of_a_list_begins_its_line_only():
    for mark in ("12", "iv", "Vi"):
        for line in (
            f"{mark}. The mill is old",
            f"   {mark}. The mill is old",
            f"It has been there since {mark}. The mill",
        ):
            assert english.splitter()(line) == nupunkt.load("default").tokenize(line)
    assert english.splitter()("12. The mill is old") == ["12. The mill is old"]
