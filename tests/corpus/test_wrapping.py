"""Wrapped lines become paragraphs again, and lines that were not wrapped stay as they are."""

import base64
import random
import textwrap
import time

import pytest

from bert_tpu.corpus import clean, wrapping

NOUNS = ["gardener", "clock", "nurse", "boat", "pilot", "door", "sister", "lamp", "teacher", "bridge", "sailor"]
VERBS = ["painted", "hid", "lost", "washed", "repaired", "watched", "carried", "found", "counted", "sold"]
CHINESE = "孩子们数了七个苹果飞行员没有说话就走我在河边看见一条红色的小船老师把旧钟修好"
GERMAN = ["der", "Hund", "die", "Katze", "sah", "das", "Haus", "im", "Garten", "und", "ging", "mit", "dem", "Mann"]
HINDI = ["राम", "घर", "गया", "उसने", "खाना", "खाया", "क्या", "तुम", "आओगे", "हाँ"]


def sentence(draw: random.Random) -> str:
    words = [draw.choice((f"the old {draw.choice(NOUNS)}", draw.choice(VERBS))) for _ in range(draw.randrange(3, 12))]
    return " ".join(words).capitalize() + draw.choice(".?!")


def paragraphs(seed: int = 0, count: int = 12) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(sentence(draw) for _ in range(draw.randrange(2, 9))) for _ in range(count)]


@pytest.mark.parametrize("width", [45, 60, 72, 80, 100])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_wrapped_paragraphs_are_joined_exactly(width, end):
    text = paragraphs(width)
    wrapped = (end * 2).join(end.join(textwrap.wrap(paragraph, width)) for paragraph in text)
    assert wrapping.join(wrapped).split("\n") == text


def test_headings_verses_lists_and_quotations_in_a_wrapped_book_stay_apart():
    first, second, third = (textwrap.fill(" ".join(paragraphs(seed, 3)), 70) for seed in range(3))
    verse = "Above the silent river sings\nthe moon of golden wings"
    items = "1. The first of all the things that are to be done in the long morning.\n2. The second of them."
    quotation = textwrap.indent(textwrap.fill(" ".join(paragraphs(4, 2)), 60), "    ")
    book = "\n\n".join(["CHAPTER I", first, verse, second, items, quotation, third])
    joined = wrapping.join(book).split("\n")
    expected = ["CHAPTER I", first, *verse.split("\n"), second, *items.split("\n"), quotation, third]
    assert joined == [" ".join(part.split()) for part in expected]


def test_an_indent_begins_a_paragraph_where_no_lines_are_blank():
    text = paragraphs(5)
    wrapped = "\n".join("\n".join(textwrap.wrap(paragraph, 66, initial_indent="    ")) for paragraph in text)
    joined = wrapping.join(wrapped)
    assert len(set(text) - set(joined.split("\n"))) <= len(text) // 4  # paragraphs of one line may be joined
    assert clean.to_sentences(wrapped, "NFC", False, "")[0] == [
        part for paragraph in text for part in clean.to_sentences(paragraph, "NFC", False, "")[0]
    ]


def test_lines_with_a_blank_line_after_each_are_joined():
    text = " ".join(paragraphs(8))
    assert wrapping.join("\n\n".join(textwrap.wrap(text, 70))) == text
    short = "\n\n".join(paragraphs(9, 40) + [sentence(random.Random(i)) for i in range(40)])
    assert wrapping.join(short) is short


@pytest.mark.parametrize("columns", [40, 76])
def test_chinese_is_joined_without_spaces(columns):
    draw = random.Random(columns)
    text = "".join("".join(draw.choices(CHINESE, k=draw.randrange(5, 30))) + draw.choice("。！，") for _ in range(40))
    wrapped = "\n".join(text[i : i + columns // 2] for i in range(0, len(text), columns // 2))
    assert wrapping.join(wrapped) == text


@pytest.mark.parametrize("words", [GERMAN, HINDI])
def test_text_with_many_or_no_capitals_is_joined(words):
    draw = random.Random(1)
    text = " ".join(draw.choice(words) + (draw.choice(["।", "."]) if draw.random() < 0.1 else "") for _ in range(400))
    assert wrapping.join(textwrap.fill(text, 68)) == text


def hyphenated(text: str, width: int) -> str:
    """Wraps words, and cuts a long one with a hyphen where it reaches over the width."""
    lines, line = [], ""
    for word in text.split():
        room = width - len(line) - 2
        if len(line) + 1 + len(word) <= width:
            line = f"{line} {word}".strip()
        elif len(word) > 5 and room > 2 and word.isalpha():
            lines.append(f"{line} {word[: min(room, 3)]}-")
            line = word[min(room, 3) :]
        else:
            lines.append(line)
            line = word
    return "\n".join([*lines, line])


def test_hyphens_go_where_words_were_hyphenated_and_stay_elsewhere():
    text = " ".join(paragraphs(7, 40))
    assert wrapping.join(hyphenated(text, 60)) == text
    assert hyphenated(text, 60).count("-\n") > 10
    hyphens = text.replace("the old clock", "the well-known, up-to-date clock--so he said")
    assert wrapping.join(textwrap.fill(hyphens, 60)) == hyphens
    soft = textwrap.fill(text, 60).replace("\n", "\u00ad\n", 1)
    assert wrapping.join(soft).replace(" ", "") == text.replace(" ", "")


def unwrapped():
    """Texts whose lines mean something, by name."""
    draw = random.Random(3)
    words = [
        "the",
        "moon",
        "above",
        "a",
        "silent",
        "river",
        "sings",
        "of",
        "golden",
        "evening",
        "light",
        "and",
        "morning",
        "dew",
    ]

    def line(low, high):
        return " ".join(draw.choices(words, k=draw.randrange(low, high)))

    return {
        "a sentence a line": [sentence(draw) for _ in range(60)],
        "a paragraph a line": paragraphs(),
        "short paragraphs": [f"{sentence(draw)} {sentence(draw)}" for _ in range(60)],
        "a poem": [line(6, 9).capitalize() + draw.choice([",", "", ";"]) for _ in range(60)],
        "a poem in small letters": [line(2, 10) if i % 5 else "" for i in range(60)],
        "a list": [line(4, 13) for _ in range(60)],
        "a list with marks": [f"- {line(4, 13)}" for _ in range(60)],
        "a dialogue": [f'"{line(2, 14).capitalize()}," he said.' for _ in range(60)],
        "titles": [line(7, 8).title() for _ in range(60)],
        "Chinese sentences": ["".join(draw.choices(CHINESE, k=draw.randrange(8, 30))) + "。" for _ in range(60)],
        "Chinese verses": ["".join(draw.choices(CHINESE, k=7)) + "，。"[i % 2] for i in range(60)],
        "Hindi lines": [" ".join(draw.choices(HINDI, k=draw.randrange(4, 14))) + "।" for _ in range(60)],
        "DNA": ["".join(draw.choices("acgt", k=60)) for _ in range(60)],
        "base64": base64.encodebytes(draw.randbytes(3000)).decode().split("\n"),
        "a table": [f"{i:5} {draw.random():9.4f} {draw.random():9.4f} {draw.random():9.4f} abc" for i in range(60)],
        "code": ["    if (i < n) {", "        count += values[i] * weights[i];", "    }"] * 20,
        "two lines": ["the silent moon above the old", "river sings of golden light"],
    }


@pytest.mark.parametrize("name", unwrapped())
def test_lines_that_were_not_wrapped_stay(name):
    text = "\n".join(unwrapped()[name])
    assert wrapping.join(text) is text


def test_a_gutenberg_book_gives_its_own_sentences():
    text = paragraphs(11, 30)
    book = "\r\n\r\n".join("\r\n".join(textwrap.wrap(paragraph, 60)) for paragraph in text)
    head, end = (f"*** {word} OF THE PROJECT GUTENBERG EBOOK A TEST ***" for word in ("START", "END"))
    found, changes = clean.to_sentences(f"A head.\n{head}\n\n{book}\n\n{end}\nA licence.", "NFC", False, "")
    assert found == [part for paragraph in text for part in clean.to_sentences(paragraph, "NFC", False, "")[0]]
    assert changes == ("licence_removed", "lines_joined")


def test_long_lines_and_many_lines_take_time_in_proportion():
    for text in ("x" * 4_000_000, "word " * 800_000, "a b\n" * 300_000, "\n".join(["acgt" * 18] * 50_000)):
        start = time.process_time()
        wrapping.join(text)
        assert time.process_time() - start < 10
