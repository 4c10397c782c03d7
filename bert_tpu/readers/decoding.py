"""Decodes the lines of a file: replaces and counts what is invalid, and refuses a file with much of it."""

import codecs
import collections
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import io
import re
from typing import Any

from bert_tpu.core import command, numerals
from bert_tpu.readers import encodings

LINE_BYTES = 1 << 20  # a longer line is read in pieces of this size
SAMPLE_BYTES = 1 << 14  # of invalid text, from which its encoding is guessed
# Limits of what is replaced and counted; a file beyond them is refused. A few broken characters do no harm, but in a
# file of another encoding nearly all characters beyond ASCII are invalid, and in a file with holes whole blocks are 0.
INVALID, INVALID_SHARE = 10, 0.1  # of the characters beyond ASCII
ZEROS, ZERO_SHARE = 1000, 0.01  # of the characters
LOST = "\ufffd".encode()
LISTED, NAMED = 1000, 5  # repaired files in corpus.json and in a report
HALF_PAIR = re.compile("[\ud800-\udfff]")
# Count of what looks wrong and stays in the text -> the rest of its sentence, as numerals.inflect takes it.
SUSPECT = {
    "lost_characters": "[character was|characters were] lost before: the text has U+FFFD instead",
    "html_entities": "HTML [entity|entities] such as &amp; [is|are] in the text: unescape [it|them] unless meant",
    "html_tags": "HTML [tag|tags] such as <p> [is|are] in the text: if the input is HTML, extract its text first",
    "end_marks": "[mark|marks] such as <|endoftext|> [is|are] in the text: --format endoftext if they end documents",
    "unknown_words": "[time|times] the text has <unk> in place of a word: take the raw form of the data",
    "colours": r"[code|codes] of a terminal's colours [is|are] in the text: sed 's/\x1b\[[0-9;]*m//g' OLD > NEW",
    "escaped_breaks": r"[line break is|line breaks are] spelled \n in the text: write [it|them] as such",
    "garbled": "[character is|characters are] UTF-8 that was decoded as CP1252 (Ã¼ for ü): ftfy repairs such text",
}


@dataclasses.dataclass
class Counts:
    """Counts that grow while documents are read."""

    read_bytes: int = 0  # of the files on disk, compressed where they are
    invalid_utf8: int = 0  # sequences that were replaced by U+FFFD
    zero_bytes: int = 0  # that were dropped
    half_pairs: int = 0  # halves of surrogate pairs that JSON spelled, such as \\ud83d; replaced by U+FFFD, too
    lost_characters: int = 0  # U+FFFD that was in the text already, from an earlier conversion
    html_entities: int = 0  # in the text that was read, such as &nbsp;
    html_tags: int = 0  # such as <p>
    end_marks: int = 0  # such as <|endoftext|>, that are left in the text
    unknown_words: int = 0  # <unk> instead of a word, from an earlier tokenization
    colours: int = 0  # and bold type, as codes of a terminal
    escaped_breaks: int = 0  # line breaks that are spelled, as a backslash and an n
    garbled: int = 0  # places where UTF-8 was once decoded as CP1252, such as Ã¼ for ü
    letter_forms: int = 0  # ligatures such as ﬁ, and other special forms of letters
    cut_documents: int = 0  # longer than sources.DOCUMENT_CHARS
    # Pages of MediaWiki dumps that are left out.
    other_namespaces: int = 0
    redirects: int = 0
    empty_pages: int = 0
    other_models: int = 0  # code, data or discussions
    old_revisions: int = 0  # before the last one of a page
    repaired: dict[str, int] = dataclasses.field(default_factory=dict)  # file -> its invalid sequences and zero bytes
    forms: dict[str, int] = dataclasses.field(default_factory=dict)  # format -> files that were read in it


PAGES = {
    "other_namespaces": "in other namespaces",
    "redirects": "redirects",
    "empty_pages": "empty",
    "other_models": "code, data or discussions",
    "old_revisions": "older revisions",
}
REPORTED = (
    "invalid_utf8",
    "zero_bytes",
    "half_pairs",
    "lost_characters",
    "html_entities",
    "html_tags",
    "end_marks",
    "unknown_words",
    "colours",
    "escaped_breaks",
    "garbled",
    "letter_forms",
    "cut_documents",
    *PAGES,
)


def add(counts: Sequence[Counts]) -> dict[str, Any]:
    """The sum of each of the REPORTED counts and of all `forms`, and the worst of the `repaired` files."""
    sums: dict[str, Any] = {name: sum(getattr(one, name) for one in counts) for name in REPORTED}
    repaired, forms = collections.Counter[str](), collections.Counter[str]()
    for one in counts:
        repaired.update(one.repaired)
        forms.update(one.forms)
    # Equal counts in the order of the names: the result depends on nothing but the input.
    worst = sorted(repaired.items(), key=lambda item: (-item[1], item[0]))[:LISTED]
    return sums | {"forms": dict(forms), "repaired_files": len(repaired), "repaired": dict(worst)}


def report(sums: Mapping[str, Any]) -> list[str]:
    """Sentences for a person: what was read and changed, and what looks wrong. sums: as `add` returns them."""
    count = {name: sums.get(name, 0) for name in REPORTED}
    sentences = []
    if forms := sums.get("forms"):
        sentences.append("sources by format: " + ", ".join(f"{forms[name]:,} {name}" for name in sorted(forms)))
    if repaired := sums.get("repaired"):
        worst = sorted(repaired.items(), key=lambda item: (-item[1], item[0]))[:NAMED]
        names = ", ".join(f"{path} ({number:,})" for path, number in worst)
        more = (
            f" and {numerals.count(sums['repaired_files'] - NAMED, 'more file')}"
            if sums["repaired_files"] > NAMED
            else ""
        )
        changes = {
            "invalid UTF-8 [sequence|sequences] replaced": "invalid_utf8",
            "zero [byte|bytes] dropped": "zero_bytes",
            "[half of a surrogate pair|halves of surrogate pairs] (such as \\ud83d) replaced": "half_pairs",
        }
        changed = " and ".join(_phrase(count[name], words) for words, name in changes.items() if count[name])
        sentences.append(f"{changed} in {names}{more}")
    sentences += [_phrase(count[name], words) for name, words in SUSPECT.items() if count[name]]
    if (number := count["letter_forms"]) and sums.get("options", {}).get("normal_form") != "NFKC":
        letters = (
            "[letter is a ligature|letters are ligatures] such as ﬁ (U+FB01) or [another special form|other special "
            "forms], which [makes another word|make other words]: --normal_form NFKC writes [it|them] as letters"
        )
        sentences.append(_phrase(number, letters))
    if number := count["cut_documents"]:
        sentences.append(_phrase(number, "long [document was|documents were] cut into pieces"))
    if pages := [f"{words} {count[name]:,}" for name, words in PAGES.items() if count[name]]:
        sentences.append(f"pages left out of dumps: {', '.join(pages)}")
    return sentences


def no_text(paths: Sequence[str], sums: Mapping[str, Any]) -> str:
    """Says that files hold no text, and what was read. paths: of the files. sums: as `add` returns them."""
    names = paths[0] + (f" and {numerals.count(len(paths) - 1, 'more file')}" if len(paths) > 1 else "")
    if any(sums.get(name) for name in PAGES):
        return f"no page of {names} is an article with text ({report(sums)[-1]})"
    forms = sums.get("forms", {})
    read = ", ".join(f"{name} {forms[name]:,}" if len(forms) > 1 else name for name in sorted(forms))
    why = f"[it is|they are] {'empty' if [*forms] == ['empty'] else f'read as {read}'}"
    return f"{names} {numerals.inflect(len(paths), f'[holds|hold] no text ({why})')}"


def _phrase(number: int, words: str) -> str:
    return f"{number:,} {numerals.inflect(number, words)}"


class Decoder:
    """Decodes the text of one file, replaces and counts what is invalid, and refuses a file with much of it."""

    def __init__(self, path: str, counts: Counts, unit: str = "line"):
        """Begins a file.

        path: of the file, for error messages.
        counts: grow with what is replaced and dropped.
        unit: what is numbered in error messages.
        """
        self._path, self._counts, self._unit = path, counts, unit
        self._chars = self._beyond_ascii = self._invalid = self._zeros = 0
        self._sample = b""

    def decode(self, raw: bytes, number: int) -> str:
        """The text of line `number`, without zero bytes. Raises UserError if the file has too many faults up to it."""
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode(errors="replace")
            self._beyond_ascii += len(raw) - len(text)
            self._replaced(text.count("\ufffd") - raw.count(LOST), raw)
            if self._invalid > INVALID and self._invalid > INVALID_SHARE * (self._invalid + self._beyond_ascii):
                where = f"{self._path} {self._unit} {number}"
                raise command.UserError(f"{where} is not UTF-8; {encodings.advice(self._sample, self._unit)}") from None
        else:
            self._beyond_ascii += len(raw) - len(text)  # at least one for each character beyond ASCII
        self._chars += len(text)
        if "\ufffd" in text:
            self._counts.lost_characters += raw.count(LOST)
        if "\0" in text:
            text = self._without_zeros(text)
            if self._zeros > ZEROS and self._zeros > ZERO_SHARE * self._chars:
                raise command.UserError(
                    f"{self._path} has {self._zeros:,} zero bytes up to {self._unit} {number}: it is binary, or was "
                    "not copied whole; fetch or make it again"
                )
        return text

    def clean(self, text: str) -> str:
        """A string of JSON, which can spell half a surrogate pair and zero characters: no tokenizer accepts these."""
        if not text.isascii():
            text, halves = HALF_PAIR.subn("\ufffd", text)
            if halves:
                self._counts.half_pairs += halves
                self._repaired(halves)
        return self._without_zeros(text) if "\0" in text else text

    def _replaced(self, count: int, raw: bytes) -> None:
        self._invalid += count
        self._sample += raw[: SAMPLE_BYTES - len(self._sample)]
        self._counts.invalid_utf8 += count
        self._repaired(count)

    def _without_zeros(self, text: str) -> str:
        count = text.count("\0")
        self._zeros += count
        self._counts.zero_bytes += count
        self._repaired(count)
        return text.replace("\0", "")

    def _repaired(self, count: int) -> None:
        repaired = self._counts.repaired
        repaired[self._path] = repaired.get(self._path, 0) + count


def lines(
    file: io.BufferedReader, path: str, counts: Counts, limit: int = LINE_BYTES, *, keeps_returns: bool = False
) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, from 1; a line of more than `limit` bytes comes in pieces.

    keeps_returns: whether a carriage return within a line ends no line; the numbers count ends of lines without it
    """
    number, rest, decoder = 1, b"", Decoder(path, counts)
    while line := rest + file.readline(limit - len(rest)):
        if line.startswith(codecs.BOM_UTF8):  # not only in line 1: files with marks may have been joined
            line = line[len(codecs.BOM_UTF8) :]
        ended = line.endswith(b"\n")
        line, rest = (line, b"") if ended or len(line) < limit else _cut(line)
        text = decoder.decode(line, number).rstrip("\r\n")
        # A carriage return ends a line, too, where a text from an old Mac was joined to others. In JSON it is space.
        yield from ((number, part) for part in ([text] if keeps_returns else text.split("\r")))
        number += ended


def _cut(line: bytes) -> tuple[bytes, bytes]:
    """Cuts `line` in two after its last space; if there is none, between two of its last characters."""
    if space := line.rfind(b" ") + 1:
        return line[:space], line[space:]
    for stop in range(len(line) - 1, len(line) - 5, -1):
        if line[stop] & 0xC0 != 0x80:  # a byte that starts a character
            return line[:stop], line[stop:]
    return line, b""
