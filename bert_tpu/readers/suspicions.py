"""Counts what looks wrong in text, and may be right: markup and traces of a wrong conversion. It stays as it is."""

import re

from bert_tpu.readers import end_marks
from bert_tpu.readers.decoding import Counts

ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|nbsp|#\d{2,6}|#x[\da-fA-F]{2,5});")
TAG = re.compile(
    r"</?(?:p|br|div|span|a|b|i|em|strong|ul|ol|li|table|tr|td|h[1-6])(?: [^<>\n]{0,300}|\s*/)?>", re.IGNORECASE
)
COLOUR = re.compile(r"\x1b\[[\d;]*m")
BREAK = re.compile(r"[.!?\"'”)](?:\\r)?\\n|\\n\\n")  # not TeX's \nu
# A character of UTF-8 that was decoded as CP1252: its first bytes are shown as Ã or as â€, its last as one of these.
LAST = re.escape(bytes(range(0x80, 0xC0)).decode("cp1252", errors="ignore"))
GARBLED = re.compile(f"(?:Ã|â€)[{LAST}\u0080-\u009f]")
# Special forms of letters, as programs that read PDFs give them: Latin and Arabic ligatures, letters of mathematics.
FORMS = re.compile("[\ufb00-\ufb06\ufb50-\ufdcf\ufe70-\ufefc\U0001d400-\U0001d7ff]")

# (notation, form, characters): a document is in the notation if the form is there once in so many characters, or at all
# for 0.
NOTATIONS = (
    ("html", re.compile(r"</(?:p|div|span|a|td|li|h[1-6])>|<br ?/?>", re.IGNORECASE), 0),
    ("escaped", re.compile(r"(?<!\\)\\n(?:\\n|[A-Z])"), 0),
    ("lost", re.compile("<unk>"), 0),
    ("tokenized", re.compile(r"\s@[-,.]@\s|-[LR][RSC]B-"), 0),  # by Moses, and as in the Penn Treebank
    ("tokenized", re.compile(r"\w@@ |▁\w|(?<=\s)##\w"), 200),  # into pieces of words
    ("tagged", re.compile(r"(?<!\S)[^\s/_]{1,60}[/_][A-Za-z$]{1,5}[-+*$\dA-Za-z]{0,6}(?!\S)"), 16),  # The/DT boat_NN
    ("tagged", re.compile(r"\([A-Z$]{1,6}(?:-[A-Z\d]+)* [^\s()]+\)"), 40),  # (DT The) of a tree
)


def notations(text: str) -> set[str]:
    """The names of the NOTATIONS in which a document is."""
    found = ((name, len(form.findall(text)), chars) for name, form, chars in NOTATIONS)
    return {name for name, number, chars in found if number and number * (chars or len(text)) >= len(text)}


def count(text: str, counts: Counts) -> None:
    """Adds what a document has of each kind to `counts`. Text without their first characters costs no time."""
    if "&" in text:
        counts.html_entities += len(ENTITY.findall(text))
    if "<" in text:
        counts.html_tags += len(TAG.findall(text))
        counts.unknown_words += text.count("<unk>")
        if any(word in text for word in end_marks.WORDS):
            counts.end_marks += len(end_marks.ANY.findall(text))
    if "\x1b" in text:
        counts.colours += len(COLOUR.findall(text))
    if "\\" in text:
        counts.escaped_breaks += len(BREAK.findall(text))
    if "Ã" in text or "â" in text:
        counts.garbled += len(GARBLED.findall(text))
    if not text.isascii():
        counts.letter_forms += len(FORMS.findall(text))
