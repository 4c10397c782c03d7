"""Windows cover the context, tokens know their characters, and labels are the places of the answer."""

import re
import unicodedata

from helpers import squad_files
import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.tasks import squad_file, squad_windows
from bert_tpu.tokenizer import normalization, vocab

SETTINGS = dict(max_length=32, doc_stride=8, max_query_length=16)
SPECIAL = vocab.ids(squad_files.VOCABULARY)


def paragraph(context, *answers, text="what is it?"):
    """Returns a paragraph with a question for each answer, a text that is once in it, or None."""
    asked = [
        squad_file.Question(f"q{i}", text, (squad_file.Answer(a, context.index(a)),) if a else ())
        for i, a in enumerate(answers)
    ]
    return squad_file.Paragraph(context, tuple(asked))


def make(*paragraphs, **settings):
    return squad_windows.make(
        list(paragraphs), path="dev.json", vocabulary=squad_files.VOCABULARY, **SETTINGS | settings
    )


def row_of(windows, row):
    """Returns ids and types of one row, and characters of its context tokens."""
    rows = windows.rows
    inside = slice(rows.starts[row], rows.starts[row + 1])
    places = np.arange(windows.context_places[row], rows.lengths[row] - 1)
    start, stop = windows.characters(row, places, places)
    return rows.ids[inside].tolist(), rows.types[inside].tolist(), list(zip(start, stop, strict=True))


def answers(windows, contexts):
    """Yields the text between the places of every row with an answer."""
    for row, (first, last) in enumerate(windows.rows.labels):
        if first:
            start, stop = windows.characters(row, first, last)
            yield contexts[windows.questions[row]][start:stop]


def test_windows_are_those_of_transformers(tmp_path):
    """The windows agree, apart from four differences.

    Their stride is the overlap of two windows, which depends on the question's length here: doc_stride is, as in
    run_squad.py, the distance of their starts. They do not cut a question. They take "[SEP]" in a text for the special
    piece. A combining accent that lowering drops is in none of their tokens (test_offsets...).
    """
    transformers = pytest.importorskip("transformers")
    vocab.save(squad_files.VOCABULARY, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = "Café runninger UNWANTED, the low-lower $1,234 (un) 中日本low the 🤗 'ΟΔΟΣ' naïve "
    contexts = [text * times for times in (1, 2, 9)]
    asked = ["what is?", "What IS the café, unwanted?", ""]
    for max_length, doc_stride in ((24, 3), (32, 10), (256, 64)):
        windows = make(
            *(paragraph(c, None, text=q) for c in contexts for q in asked), max_length=max_length, doc_stride=doc_stride
        )
        row = 0
        for question, (context, text) in enumerate((c, q) for c in contexts for q in asked):
            room = max_length - 3 - len(theirs(text, add_special_tokens=False)["input_ids"])
            expected = theirs(
                text, context, truncation="only_second", max_length=max_length, stride=room - doc_stride,
                return_overflowing_tokens=True, return_offsets_mapping=True,
            )  # fmt: skip
            for i in range(len(expected["input_ids"])):
                of_context = [n == 1 for n in expected.sequence_ids(i)]
                offsets = [o for o, inside in zip(expected["offset_mapping"][i], of_context, strict=True) if inside]
                assert row_of(windows, row) == (expected["input_ids"][i], expected["token_type_ids"][i], offsets)
                assert windows.questions[row] == question
                row += 1
        assert row == len(windows.questions)


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ("Der CAFÉ naïve läuft", ["Der", "CAFÉ", "naïve", "läuft"]),
        ("un cafe\u0301 e\u0301te\u0301 low", ["un", "cafe\u0301", "e\u0301te\u0301", "low"]),
        ("low中日本er 中", ["low", "中", "日", "本", "er"]),
        ("🤗 👩\u200d👩\u200d👧 ok!", ["🤗", "👩\u200d👩\u200d👧", "ok", "!"]),
        ("ΟΔΟΣ, ΑΣ. ΑΣ\u0301Α x", ["ΟΔΟΣ", "ΑΣ", "ΑΣ\u0301Α", "x"]),
        ("z\u200bwid\u200bth so\u00adft \ufeffbom", ["z\u200bwid\u200bth", "so\u00adft", "bom"]),
        ("nu\x00l \ufffdx y\u200b", ["nu\x00l", "x", "y"]),
        ("İst ß ½ \u0301abc d", ["İst", "ß", "½", "abc", "d"]),
        ("한국어 x", ["한국어", "x"]),
        ("a\u3000b\u00a0c\u2028d", ["a", "b", "c", "d"]),
        ("unwanted, (lower) $5", ["unwanted", ",", "lower", "$", "5"]),
    ],
    ids=ascii,
)
def test_offsets_point_into_the_original_text(context, words):
    windows = make(paragraph(context, *words), max_length=64)
    assert list(answers(windows, [context] * len(words))) == words


def test_an_answer_is_all_tokens_that_share_a_character_with_it():
    context = "the unwanted cafe"
    known = [squad_file.Answer(context[a:b], a) for a, b in ((5, 9), (3, 13), (9, 14))]
    windows = make(squad_file.Paragraph(context, tuple(squad_file.Question("q", "?", (answer,)) for answer in known)))
    assert list(answers(windows, [context] * 3)) == ["unwant", "unwanted", "wanted cafe"]


def test_every_window_with_the_whole_answer_has_its_places_and_the_others_cls():
    letters = "a b c d e f g h i j k l m n o p q r s t u v w x y z"
    threes = [letters[i : i + 5] for i in range(0, 48, 2)]
    windows = make(paragraph(letters, *threes), max_length=18, doc_stride=4)  # [CLS] 5 pieces [SEP] 10 letters [SEP]
    parts = [letters.split()[start : start + 10] for start in (0, 4, 8, 12, 16)]
    assert windows.rows.lengths.tolist() == [18] * 5 * len(threes)
    expected = [
        [window.index(three[0]) + 7, window.index(three[-1]) + 7] if {three[0], three[-1]} <= {*window} else [0, 0]
        for three in threes
        for window in parts
    ]
    assert windows.rows.labels.tolist() == expected
    assert windows.rows.labels.dtype == np.int32


def test_a_question_without_answer_has_the_label_of_cls_everywhere():
    windows = make(paragraph("un " * 60, None))
    assert len(windows.questions) > 2
    assert not windows.rows.labels.any()


def test_a_question_is_cut_and_its_ids_are_between_cls_and_sep():
    windows = make(paragraph("low er", "low", text="a b c d e"), max_query_length=3)
    piece = squad_files.VOCABULARY.pieces.index
    ids, types, offsets = row_of(windows, 0)
    assert ids == [SPECIAL.cls, *map(piece, "abc"), SPECIAL.sep, piece("low"), piece("e"), piece("##r"), SPECIAL.sep]
    assert types == [0] * 5 + [1] * 4
    assert offsets == [(0, 3), (4, 5), (5, 6)]
    assert (windows.rows.ids.dtype, windows.rows.types.dtype) == (np.uint16, np.uint8)


@hypothesis.given(length=strategies.integers(1, 200), room=strategies.integers(1, 50), data=strategies.data())
def test_pieces_hold_every_token_and_are_a_stride_apart(length, room, data):
    stride = data.draw(strategies.integers(1, room))
    pieces = list(squad_windows.cut(length, room, stride))
    assert {i for start, stop in pieces for i in range(start, stop)} == set(range(length))
    assert [start for start, _ in pieces] == [stride * i for i in range(len(pieces))]
    assert all(stop - start == room for start, stop in pieces[:-1])
    assert pieces[-1][1] == length
    assert all(stop < length for _, stop in pieces[:-1])


def kept(word):
    """Returns the part of a word that the tokenizer takes, normalized."""
    return normalization.normalizer(lower=True).normalize_str(word).split()


TRICKY = strategies.sampled_from("aeÉ\u0301\u200bΣσ中🤗한İ.,")
WORDS = strategies.text(strategies.characters(codec="utf-8") | TRICKY, min_size=1)


@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(
    words=strategies.lists(WORDS, min_size=1, max_size=30),
    space=strategies.sampled_from(" \n\t\u3000"),
    data=strategies.data(),
)
def test_the_answer_is_rebuilt_up_to_what_the_tokenizer_drops(words, space, data):
    first = data.draw(strategies.integers(0, len(words) - 1))
    last = data.draw(strategies.integers(first, len(words) - 1))
    answer = space.join(words[first : last + 1])
    hypothesis.assume(kept(answer))
    context = space.join(words)
    start = len(space.join([*words[:first], ""]))
    question = squad_file.Question("q", "what?", (squad_file.Answer(answer, start),))
    windows = make(squad_file.Paragraph(context, (question,)), max_length=512, doc_stride=100)
    assert (np.diff(windows.offsets, axis=0) >= 0).all()
    texts = list(answers(windows, [context]))
    assert texts or len(windows.questions) > 1
    for text in texts:
        assert text in answer
        assert kept(text) == kept(answer)
        before, _, after = answer.partition(text)
        assert not kept(before)
        assert not kept(after)
        assert all(unicodedata.category(c) != "Mn" for c in after[:1])


@pytest.mark.parametrize(
    ("context", "answer", "settings", "message"),
    [
        (
            "the low",
            "low",
            dict(max_query_length=64, max_length=8),
            "apart would leave some out: give --config.max_length=16",
        ),
        (
            "the low",
            "low",
            dict(max_length=24, doc_stride=17),
            "give --config.data.doc_stride=16 or --config.data.max_query_length=4 or --config.max_length=25",
        ),
        ("\u200b \x07", None, {}, "has a context without any token"),
        ("the \u200b low", "\u200b", {}, "has the answer '\\u200b', of which the tokenizer keeps nothing"),
    ],
)
def test_what_makes_no_windows_is_refused_by_name(context, answer, settings, message):
    with pytest.raises(command.UserError) as fault:
        make(paragraph(context, answer, text="what is a b?"), **settings)
    assert message in str(fault.value)
    assert str(fault.value).startswith("dev.json: question q0 ")


def test_the_advice_about_room_serves_all_questions():
    questions = [paragraph("the low", "low", text=text) for text in ("what?", "what is a b?", "what is it?")]
    with pytest.raises(command.UserError) as fault:
        make(*questions, max_length=16, doc_stride=12)
    flags = re.findall(r"--config\.(?:data\.)?(\w+)=(\d+)", str(fault.value))
    assert [name for name, _ in flags] == ["doc_stride", "max_query_length", "max_length"]
    for name, value in flags:
        make(*questions, **{"max_length": 16, "doc_stride": 12, name: int(value)})
        worse = int(value) + (-1 if name == "max_length" else 1)
        with pytest.raises(command.UserError):  # the advice is the mildest
            make(*questions, **{"max_length": 16, "doc_stride": 12, name: worse})
