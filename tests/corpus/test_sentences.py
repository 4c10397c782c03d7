"""Documents are split where a reader would end a sentence, and no character is lost."""

import subprocess
import sys
import time

import hypothesis
from hypothesis import strategies
import pytest

from bert_tpu.corpus import sentences
from bert_tpu.readers import formats


@pytest.mark.parametrize(
    "parts",
    [
        ["Dr. Smith met Mr. J. R. Brown at 5 p.m. on Jan. 3.", "They left."],
        ['"Stop!" he cried.', '"I will not."'],
        ["“Where is it?” she asked.", "He did not know."],
        ["He lived in the U.S.", "He moved to Washington, D.C. in 1990."],
        ["The U.S. Government said so.", "It was 3.5 percent."],
        ["See Fig. 3 and pp. 12-14, e.g. the table.", "Then go on."],
        ["J. K. Rowling wrote it.", "E. M. Forster did not."],
        ["Well... I don't know.", "Maybe... not."],
        ["Prof. A. Lee et al. found this.", "Ph.D. students helped."],
    ],
)
def test_abbreviations_initials_and_quotes_end_no_sentence(parts):
    assert sentences.split(" ".join(parts)) == parts


def test_a_newline_ends_a_sentence_and_blank_lines_are_none():
    assert sentences.split("A heading\nand the text\n\n \t\n of it.\n") == [
        "A heading",
        "and the text",
        "of it.",
    ]


@hypothesis.settings(deadline=None)
@hypothesis.given(
    document=strategies.text(strategies.characters(codec="utf-8"), max_size=200)
    | strategies.text("aA. !?\"'“”()…\n\t1", max_size=200)
)
def test_no_character_is_lost_and_no_sentence_is_blank(document):
    parts = sentences.split(document)
    assert "".join("".join(parts).split()) == "".join(document.split())
    assert all(sentence.strip() == sentence != "" for sentence in parts)
    assert not any("\n" in sentence for sentence in parts)


@pytest.mark.parametrize("run", ["?!", "x", '."', "word "])
def test_a_run_of_marks_takes_time_in_proportion_to_its_length(run):
    text = run * (300_000 // len(run))
    start = time.perf_counter()
    parts = sentences.split(text)
    assert time.perf_counter() - start < 20  # quadratic time would be 100 s and more
    assert "".join(parts).replace(" ", "") == text.replace(" ", "")


def test_pieces_keep_every_character_and_are_cut_after_spaces():
    line = "some words of a line " * 10
    cut = formats.pieces(line, 17)
    assert "".join(cut) == line
    assert all(len(piece) <= 17 and piece.endswith(" ") for piece in cut)
    assert formats.pieces("x" * 40, 17) == ["x" * 17, "x" * 17, "x" * 6]


def test_importing_the_module_loads_no_model():
    program = "import sys; from bert_tpu.corpus import sentences; sys.exit('nupunkt' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
