"""Text sources: files of several formats, compressed or not, as one stream of documents."""

import bz2
from collections.abc import Callable, Iterator, Sequence
import contextlib
import fnmatch
import glob
import gzip
import io
import lzma
import os
from pathlib import Path
from typing import Any, NamedTuple
import zlib

from etils import epath

from bert_tpu.core import command, storage
from bert_tpu.readers import formats, parquet, tfds
from bert_tpu.readers.formats import Counts

FORMATS = ("auto", *formats.READERS)
HELP = (
    "text: a paragraph a line, blank lines between documents; file: a document a file; jsonl: "
    "objects with a `text`; wiki: WikiExtractor's <doc>; mediawiki: an XML dump; auto: by name and first line"
)
DOCUMENT_CHARS = 4 << 20  # a longer document is cut into several
STARTS = {"<doc ": "wiki", "<mediawiki": "mediawiki"}  # how the first line begins
OPENERS: dict[str, Callable[[io.BufferedReader], Any]] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}
DAMAGE = (EOFError, OSError, lzma.LZMAError, zlib.error)  # raised by the decompressors


class Source(NamedTuple):
    """An input: a file, or a data set `tfds:NAME`, with its size and time when it was listed."""

    path: str
    bytes: int
    mtime_ns: int


class Document(NamedTuple):
    """A document, one paragraph a line; or a piece of a document that was too long."""

    text: str
    piece: bool  # True: a piece
    source: int  # number of its source
    number: int  # within one call of `documents`; the pieces of a document share it
    is_markup: bool  # Wikipedia's, which `plain` removes

    def plain(self) -> str:
        """The text without markup."""
        if not self.is_markup:
            return self.text
        from bert_tpu.readers import wikitext

        return wikitext.text(self.text)


def find(patterns: list[str]) -> list[Source]:
    """The files that match any of the globs (`**` for all folders below), each once, sorted by path.

    `tfds:NAME` means the training split of a data set. Raises UserError for a pattern that matches nothing.
    """
    matched = {}
    for pattern in patterns:
        if pattern.startswith(tfds.PREFIX):
            source = Source(*tfds.find(pattern), mtime_ns=0)
            matched[source.path] = source
            continue
        if storage.is_bucket(pattern):
            matched |= {source.path: source for source in _in_bucket(pattern)}
            continue
        matches = [pattern] if os.path.isfile(pattern) else glob.glob(pattern, recursive=True)
        files = [os.path.normpath(path) for path in sorted(matches) if os.path.isfile(path)]
        if not files:
            raise command.UserError(f"no file matches the input {pattern!r}; check it (for a directory give 'DIR/*')")
        for path in files:
            stat = os.stat(path)
            matched.setdefault(os.path.realpath(path), Source(path, stat.st_size, stat.st_mtime_ns))
    return sorted(matched.values())


def _in_bucket(pattern: str) -> list[Source]:
    """The files of a bucket that match. Only the last part of the path may have a glob."""
    path = epath.Path(pattern)
    matches = [path] if path.is_file() else [p for p in path.parent.iterdir() if fnmatch.fnmatch(p.name, path.name)]
    files = [Source(os.fspath(p), p.stat().length, p.stat().mtime * 10**9) for p in matches if p.is_file()]
    if not files:
        raise command.UserError(f"no file matches the input {pattern!r}; in a bucket only a file's name may have a *")
    return files


def documents(
    sources: Sequence[Source], counts: Counts, *, text_format: str = "auto", first: int = 0
) -> Iterator[Document]:
    """Every document of every source, in order. Memory does not grow with the input.

    sources: to read
    counts: of what is read; grows on the way
    text_format: one of FORMATS
    first: number of the first of these sources among all sources

    Raises UserError for a damaged archive or a malformed record, with the file and the line. Skips nothing silently.
    """
    document = 0
    for number, source in enumerate(sources, first):
        before, path = counts.read_bytes, source.path
        if path.startswith(tfds.PREFIX):
            paragraphs, form = formats.texts(tfds.texts(path), counts), "tfds"
        elif Path(path).suffix == parquet.SUFFIX:
            paragraphs, form = formats.texts(parquet.texts(path), counts), "parquet"
        else:
            form = _detect(path) if text_format == "auto" else text_format
            paragraphs = _file(path, counts, form)
        for text, piece, is_last in _group(paragraphs, counts):
            yield Document(text, piece, number, document, form == "mediawiki")
            document += is_last
        counts.read_bytes = before + source.bytes


def _file(path: str, counts: Counts, form: str) -> Iterator[str | None]:
    """The paragraphs of a file, with None after each document. form: a key of formats.READERS."""
    start = counts.read_bytes
    with _naming(path), epath.Path(path).open("rb") as raw, _unpack(raw, path) as file:
        for paragraph in formats.READERS[form](file, path, counts):
            counts.read_bytes = start + raw.tell()
            yield paragraph


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Raises a UserError that names `path` if the block meets a damaged archive."""
    try:
        yield
    except DAMAGE as error:
        if getattr(error, "errno", None) is not None:  # an error of the system, not of the archive
            raise
        raise command.UserError(f"{path} is damaged or cut short ({error}); fetch or make it again") from None


def _unpack(raw: io.BufferedReader, path: str) -> io.BufferedReader:
    opener = OPENERS.get(Path(path).suffix)
    if opener is None:
        return raw
    if epath.Path(path).stat().length == 0:
        raise EOFError("it is empty")  # gzip would take an empty file for a file without text
    return io.BufferedReader(opener(raw), formats.LINE_BYTES)


def _detect(path: str) -> str:
    """The format of a file by its name without the archive's suffix; if that is unknown, by its first line."""
    name = Path(path).with_suffix("") if Path(path).suffix in OPENERS else Path(path)
    if name.suffix in (".jsonl", ".json", ".ndjson"):
        return "jsonl"
    with _naming(path), epath.Path(path).open("rb") as raw, _unpack(raw, path) as file:
        first = next((line for _, line in formats.lines(file, path, Counts()) if line.strip()), "")
    return next((form for start, form in STARTS.items() if first.startswith(start)), "text")


def _group(paragraphs: Iterator[str | None], counts: Counts) -> Iterator[tuple[str, bool, bool]]:
    """(text, True for a piece, True at the document's end), from paragraphs with None after each document.

    A document of more than DOCUMENT_CHARS is cut and counted.
    """
    parts: list[str] = []
    size, cut = 0, False
    for paragraph in paragraphs:
        if paragraph is None:
            if parts:
                yield "\n".join(parts), cut, True
            parts, size, cut = [], 0, False
            continue
        if parts and size + len(paragraph) > DOCUMENT_CHARS:
            yield "\n".join(parts), True, False
            counts.cut_documents += not cut
            parts, size, cut = [], 0, True
        parts.append(paragraph)
        size += len(paragraph) + 1
