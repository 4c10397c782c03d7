"""Text sources: files of several formats, compressed or not, as one stream of documents."""

import bz2
import codecs
from collections.abc import Iterator
from dataclasses import dataclass
import glob
import gzip
import io
import json
import lzma
import os
from pathlib import Path
from typing import NamedTuple
import zlib

from bert_tpu import command, datasets, sentences

FORMATS = ("auto", "text", "file", "jsonl", "wiki")
HELP = (
    "text: a paragraph a line, blank lines between documents; file: a document a file; jsonl: "
    "objects with a `text`; wiki: WikiExtractor's <doc>; auto tells by name and first line"
)
LINE_BYTES = 1 << 20  # a longer line is taken in pieces of this size
RECORD_BYTES = 64 << 20  # a JSON line can only be parsed whole: it must fit
DOCUMENT_CHARS = 4 << 20  # a longer document becomes several
OPENERS = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
DAMAGE = (EOFError, OSError, lzma.LZMAError, zlib.error)  # what the unpackers raise


class Source(NamedTuple):
    """An input as it was when it was found: a file, or a data set `tfds:NAME`."""

    path: str
    bytes: int
    mtime_ns: int


class Document(NamedTuple):
    """A document, one paragraph a line; or a piece of one that was too long."""

    text: str
    piece: bool


@dataclass
class Counts:
    """What was met on the way; grows while documents are read."""

    read_bytes: int = 0  # of the files as they are on disk
    invalid_utf8: int = 0  # sequences that U+FFFD replaced
    cut_documents: int = 0


def find(patterns: list[str]) -> list[Source]:
    """The files that match any of the globs (`**` goes down), each once, sorted by path.

    `tfds:NAME` stands for the training split of a data set. Raises UserError for a pattern that
    matches nothing.
    """
    found = {}
    for pattern in patterns:
        if pattern.startswith(datasets.PREFIX):
            source = Source(*datasets.find(pattern), mtime_ns=0)
            found[source.path] = source
            continue
        matches = [pattern] if os.path.isfile(pattern) else glob.glob(pattern, recursive=True)
        files = [os.path.normpath(path) for path in sorted(matches) if os.path.isfile(path)]
        if not files:
            raise command.UserError(f"no file matches the input {pattern!r}; check it (for a directory give 'DIR/*')")
        for path in files:
            stat = os.stat(path)
            found.setdefault(os.path.realpath(path), Source(path, stat.st_size, stat.st_mtime_ns))
    return sorted(found.values())


def documents(sources: list[Source], counts: Counts, *, format: str = "auto") -> Iterator[Document]:
    """Every document of every source in order, in memory that does not grow with the input.

    Raises UserError naming the file, and the line where there is one, for a damaged archive or a
    malformed record: nothing is skipped in silence.
    """
    for source in sources:
        before = counts.read_bytes
        if source.path.startswith(datasets.PREFIX):
            yield from _group(_data_set(source.path, counts), counts)
        else:
            yield from _group(_file(source.path, counts, format), counts)
        counts.read_bytes = before + source.bytes


def _data_set(name: str, counts: Counts) -> Iterator[str | None]:
    for raw in datasets.texts(name):
        counts.read_bytes += len(raw)
        yield from _paragraphs(_decode(raw, counts))


def _file(path: str, counts: Counts, format: str) -> Iterator[str | None]:
    """The paragraphs of a file; None ends a document."""
    start = counts.read_bytes
    try:
        if format == "auto":
            format = _detect(path)
        with open(path, "rb") as raw, _unpack(raw, path) as file:
            reader = READERS[format]
            for paragraph in reader(file, path, counts):
                counts.read_bytes = start + raw.tell()
                yield paragraph
    except DAMAGE as fault:
        if getattr(fault, "errno", None) is not None:  # the system's, not the archive's
            raise
        raise command.UserError(f"{path} is damaged or cut short ({fault}); fetch or make it again") from None


def _unpack(raw: io.BufferedReader, path: str) -> io.BufferedReader:
    opener = OPENERS.get(Path(path).suffix)
    if opener is None:
        return raw
    if os.fstat(raw.fileno()).st_size == 0:
        raise EOFError("it is empty")  # gzip takes it for a file without text
    return io.BufferedReader(opener(raw), LINE_BYTES)


def _detect(path: str) -> str:
    """The format of a file, by its name without the archive's suffix, then by its first line."""
    name = Path(path).with_suffix("") if Path(path).suffix in OPENERS else Path(path)
    if name.suffix in (".jsonl", ".json", ".ndjson"):
        return "jsonl"
    with open(path, "rb") as raw, _unpack(raw, path) as file:
        first = next((line for _, line in _lines(file, path, Counts()) if line.strip()), "")
    return "wiki" if first.startswith("<doc ") else "text"


def _lines(file: io.BufferedReader, path: str, counts: Counts, limit: int = LINE_BYTES) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers; one longer than `limit` bytes comes in pieces."""
    number, rest = 1, b""
    while line := rest + file.readline(limit - len(rest)):
        if number == 1 and not rest:
            if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise command.UserError(f"{path} is UTF-16; convert it by iconv -t UTF-8")
            line = line.removeprefix(codecs.BOM_UTF8)
        ended = line.endswith(b"\n")
        line, rest = (line, b"") if ended or len(line) < limit else _cut(line)
        yield number, _decode(line, counts).rstrip("\r\n")
        number += ended


def _cut(line: bytes) -> tuple[bytes, bytes]:
    """`line` in two, at its last space or else between two of its last characters."""
    if space := line.rfind(b" ") + 1:
        return line[:space], line[space:]
    for stop in range(len(line) - 1, len(line) - 5, -1):
        if line[stop] & 0xC0 != 0x80:  # a byte that starts a character
            return line[:stop], line[stop:]
    return line, b""


def _decode(raw: bytes, counts: Counts) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        text = raw.decode(errors="replace")
        counts.invalid_utf8 += text.count("\ufffd") - raw.count("\ufffd".encode())
        return text


def _text(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[str | None]:
    for _, line in _lines(file, path, counts):
        yield line if line.strip() else None
    yield None


def _one(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[str | None]:
    for _, line in _lines(file, path, counts):
        yield line
    yield None


def _jsonl(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[str | None]:
    for number, line in _lines(file, path, counts, RECORD_BYTES):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
            if not isinstance(text, str):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise command.UserError(
                f"{path} line {number} is not a JSON object with a string under 'text' in at most "
                f"{RECORD_BYTES >> 20} MiB; mend the line, or set --format if this is no JSON lines"
            ) from None
        # JSON can spell half a surrogate pair, which no tokenizer takes.
        yield from _paragraphs(_decode(text.encode(errors="surrogatepass"), counts))


def _wiki(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[str | None]:
    inside = False
    for number, line in _lines(file, path, counts):
        opens = line.startswith("<doc id=" if inside else "<doc ")
        if opens == inside and (opens or line.strip()):
            what = "a <doc> inside another" if inside else "text outside of <doc>"
            raise command.UserError(f"{path} line {number} has {what}; extract it again, or set --format text")
        if opens:
            inside = True
        elif inside and line.strip() == "</doc>":
            inside = False
            yield None
        elif inside:
            yield line
    if inside:
        raise command.UserError(f"{path} ends inside a <doc>: it was cut short; extract it again")


READERS = {"text": _text, "file": _one, "jsonl": _jsonl, "wiki": _wiki}


def _paragraphs(text: str) -> Iterator[str | None]:
    """The paragraphs of one document that is in memory, and its end."""
    for line in text.split("\n"):
        yield from sentences.pieces(line, LINE_BYTES)
    yield None


def _group(paragraphs: Iterator[str | None], counts: Counts) -> Iterator[Document]:
    """Documents of paragraphs; one of more than DOCUMENT_CHARS is cut and counted."""
    held, size, cut = [], 0, False
    for paragraph in paragraphs:
        if paragraph is None:
            if held:
                yield Document("\n".join(held), piece=cut)
            held, size, cut = [], 0, False
            continue
        if held and size + len(paragraph) > DOCUMENT_CHARS:
            yield Document("\n".join(held), piece=True)
            counts.cut_documents += not cut
            held, size, cut = [], 0, True
        held.append(paragraph)
        size += len(paragraph) + 1
