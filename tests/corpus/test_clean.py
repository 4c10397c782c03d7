"""Cleaning removes only the text that it is asked to remove."""

import time
import unicodedata

import hypothesis
from hypothesis import strategies
import pytest

from bert_tpu.core import command
from bert_tpu.corpus import clean

HEAD = "The Project Gutenberg eBook of X\n\nThis eBook is for the use of anyone\n"
START = "*** START OF THE PROJECT GUTENBERG EBOOK X ***"
END = "*** END OF THE PROJECT GUTENBERG EBOOK X ***"
ENGLISH = "The little house stood by the river, and nobody had lived in it for years. " * 3
GERMAN = "Das kleine Haus stand am Fluss, und seit Jahren hatte niemand darin gewohnt. " * 3


def cleaned(text, normal_form="NFC", keep_licence=False, language=""):
    return clean.clean(text, normal_form, keep_licence, language)


@pytest.mark.parametrize(
    "start", [START, START.replace("THE", "THIS"), "***START OF THIS PROJECT GUTENBERG ETEXT X***"]
)
@pytest.mark.parametrize("end", [END, "End of the Project Gutenberg EBook of X, by Y"])
def test_the_licence_around_a_gutenberg_book_is_removed(start, end):
    text = f"{HEAD}{start}\n\nChapter 1\nIt began.\n\n{end}\nLicence.\n"
    assert cleaned(text) == ("Chapter 1\nIt began.", ("licence_removed",))
    assert cleaned(text, keep_licence=True) == (text, ())


def test_of_several_books_all_stay():
    books = [f"{HEAD}{START}\n\nBook {n}.\nIt went on.\n\n{END}\nLicence {n}.\n" for n in range(3)]
    assert cleaned("".join(books)).text == "\n".join(f"Book {n}.\nIt went on." for n in range(3))


def test_a_piece_of_a_book_loses_its_part_of_the_licence():
    assert cleaned(f"{HEAD}{START}\nIt began.").text == "It began."
    assert cleaned(f"It ended.\n{END}\nLicence").text == "It ended."


@pytest.mark.parametrize(
    "text", ["He read about Project Gutenberg's START OF an era.", "a *** START OF THE PROJECT GUTENBERG EBOOK X ***"]
)
def test_text_about_project_gutenberg_stays(text):
    assert cleaned(text) == (text, ())


@hypothesis.given(strategies.text(), strategies.sampled_from(clean.FORMS))
def test_the_normal_form_is_unicode_s_and_changes_are_reported(text, form):
    document = cleaned(text, normal_form=form, keep_licence=True)
    assert document.text == (text if form == "none" else unicodedata.normalize(form, text))
    assert document.changes == (("normalized",) if document.text != text else ())


@hypothesis.given(
    strategies.text(strategies.sampled_from("a\u0301\u0316 \n中\u1100\u1161\u11a8か\u3099x"), max_size=200)
)
def test_a_long_text_is_normalized_in_pieces_as_if_it_were_whole(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clean, "NORMAL_CHARS", 40)
        spaced = "x ".join(text[i : i + 15] for i in range(0, len(text), 15))
        assert cleaned(spaced).text == unicodedata.normalize("NFC", spaced)


def test_a_run_of_combining_marks_takes_time_in_proportion_to_its_length():
    start = time.process_time()
    assert len(cleaned("a" + "\u0301\u0316" * 80_000).text) > 150_000
    assert time.process_time() - start < 8  # quadratic time would be 20 s and more


def test_documents_of_another_language_are_left_out():
    assert cleaned(ENGLISH, language="en") == (ENGLISH, ())
    assert cleaned(GERMAN, language="en") == ("", ("other_language",))
    assert cleaned(GERMAN, language="de").text == GERMAN
    assert cleaned(" \n", language="en") == (" \n", ())  # counted later as empty


def test_a_language_that_nothing_detects_is_refused_and_all_that_are_detected_are_known():
    clean.check("NFC", "ja")
    for code, advice in (("jp", "did you mean ja"), ("eng", "did you mean en"), ("dz", "leave the option out")):
        with pytest.raises(command.UserError, match=f"--language {code} is .* {advice}"):
            clean.check("NFC", code)
    labels = {one["lang"] for one in clean._detector().detect("hello", model="lite", k=200)}
    assert len(labels) > 100
    assert labels <= set(clean.LANGUAGES.split())
    assert set(clean.MEANT.values()) <= set(clean.LANGUAGES.split())
    assert not set(clean.MEANT) & set(clean.LANGUAGES.split())


@pytest.mark.parametrize(("form", "language"), [("NFX", ""), ("NFC", "english"), ("NFC", "e")])
def test_an_invalid_option_is_named(form, language):
    with pytest.raises(command.UserError, match=f"{language or form}"):
        clean.check(form, language)
