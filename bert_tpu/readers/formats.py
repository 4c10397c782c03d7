"""Readers of text in several formats: from an open file to its paragraphs, with None after each document."""

import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
import io
import json
from xml.etree import ElementTree

from bert_tpu.core import command

LINE_BYTES = 1 << 20  # a longer line is read in pieces of this size
RECORD_BYTES = 64 << 20  # of a JSON line at most: it must be parsed whole


@dataclass
class Counts:
    """Counts that grow while documents are read."""

    read_bytes: int = 0  # of the files on disk, compressed where they are
    invalid_utf8: int = 0  # sequences that were replaced by U+FFFD
    cut_documents: int = 0  # longer than sources.DOCUMENT_CHARS


def lines(file: io.BufferedReader, path: str, counts: Counts, limit: int = LINE_BYTES) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, from 1; a line of more than `limit` bytes comes in pieces."""
    number, rest = 1, b""
    while line := rest + file.readline(limit - len(rest)):
        if number == 1 and not rest:
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise command.UserError(f"{path} is UTF-16; convert it by iconv -f UTF-16 -t UTF-8")
            line = line.removeprefix(codecs.BOM_UTF8)
        ended = line.endswith(b"\n")
        line, rest = (line, b"") if ended or len(line) < limit else _cut(line)
        yield number, decode(line, counts).rstrip("\r\n")
        number += ended


def _cut(line: bytes) -> tuple[bytes, bytes]:
    """Cuts `line` in two after its last space; if there is none, between two of its last characters."""
    if space := line.rfind(b" ") + 1:
        return line[:space], line[space:]
    for stop in range(len(line) - 1, len(line) - 5, -1):
        if line[stop] & 0xC0 != 0x80:  # a byte that starts a character
            return line[:stop], line[stop:]
    return line, b""


def decode(raw: bytes, counts: Counts) -> str:
    """Decodes UTF-8. Replaces and counts invalid bytes."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        text = raw.decode(errors="replace")
        counts.invalid_utf8 += text.count("\ufffd") - raw.count("\ufffd".encode())
        return text


def _text(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[str | None]:
    for _, line in lines(file, path, counts):
        yield line if line.strip() else None
    yield None


def _one(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[str | None]:
    for _, line in lines(file, path, counts):
        yield line
    yield None


def jsonl(file: io.BufferedReader, path: str, counts: Counts, column: str = "text") -> Iterator[str | None]:
    """The paragraphs of each JSON object's string under the key `column`."""
    for number, line in lines(file, path, counts, RECORD_BYTES):
        if not line.strip():
            continue
        try:
            text = json.loads(line)[column]
            if not isinstance(text, str):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise command.UserError(
                f"{path} line {number} is not a JSON object with a string under {column!r} in at most "
                f"{RECORD_BYTES >> 20} MiB; correct the line, or set --format if these are not JSON lines"
            ) from None
        # JSON can spell half a surrogate pair, which no tokenizer accepts.
        yield from paragraphs(decode(text.encode(errors="surrogatepass"), counts))


def _wiki(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[str | None]:
    inside = False
    for number, line in lines(file, path, counts):
        opens = line.startswith("<doc id=" if inside else "<doc ")
        if opens == inside and (opens or line.strip()):
            problem = "a <doc> inside another" if inside else "text outside of <doc>"
            raise command.UserError(f"{path} line {number} has {problem}; extract it again, or set --format text")
        if opens:
            inside = True
        elif inside and line.strip() == "</doc>":
            inside = False
            yield None
        elif inside:
            yield line
    if inside:
        raise command.UserError(f"{path} ends inside a <doc>: it was cut short; extract it again")


def _mediawiki(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[str | None]:
    """The markup of every article of a dump: every page of the main namespace that is not a redirect.

    https://www.mediawiki.org/wiki/Help:Export#Export_format
    """
    try:
        parsed = ElementTree.iterparse(file, events=("start", "end"))
        _, root = next(parsed)
        for event, element in parsed:
            if event == "end" and element.tag.endswith("}page"):
                space = element.tag.removesuffix("page")
                text = element.findtext(f"{space}revision/{space}text")
                if text and element.findtext(f"{space}ns") == "0" and element.find(f"{space}redirect") is None:
                    yield text
                    yield None
                root.clear()  # otherwise all pages stay in memory
    except ElementTree.ParseError as fault:
        raise command.UserError(f"{path} is not a whole MediaWiki dump ({fault}); fetch it again") from None


Reader = Callable[[io.BufferedReader, str, Counts], Iterator[str | None]]
READERS: dict[str, Reader] = {"text": _text, "file": _one, "jsonl": jsonl, "wiki": _wiki, "mediawiki": _mediawiki}


def texts(raws: Iterable[bytes | str], counts: Counts) -> Iterator[str | None]:
    """The paragraphs of documents, each in memory as a whole."""
    for document in raws:
        raw = document.encode(errors="surrogatepass") if isinstance(document, str) else document
        counts.read_bytes += len(raw)
        yield from paragraphs(decode(raw, counts))


def paragraphs(text: str) -> Iterator[str | None]:
    """The paragraphs of one document in memory, then None."""
    for line in text.split("\n"):
        yield from pieces(line, LINE_BYTES)
    yield None


def pieces(line: str, limit: int) -> list[str]:
    """Cuts `line` into pieces of at most `limit` characters, after a space where possible."""
    cut: list[str] = []
    start = 0
    while len(line) - start > limit:
        stop = line.rfind(" ", start, start + limit) + 1 or start + limit
        cut.append(line[start:stop])
        start = stop
    return [*cut, line[start:]]
