"""Text sources: files of several formats, compressed or not, as one stream of documents."""

import bz2
from collections.abc import Callable, Iterator, Sequence
import contextlib
import fnmatch
import functools
import glob
import gzip
import io
import lzma
import os
from typing import Any, NamedTuple
import zlib

from etils import epath

from bert_tpu.core import command, storage
from bert_tpu.readers import content, formats, hub, parquet, tfds
from bert_tpu.readers.formats import Counts

FORMATS = ("auto", *formats.READERS)
HELP = (
    "text: a paragraph a line, blank lines between documents; file: a document a file; jsonl: "
    "objects with a `text`; wiki: WikiExtractor's <doc>; mediawiki: an XML dump; auto: by the file's beginning"
)
COLUMN_HELP = "the key of JSON lines, or the column of Parquet files, that holds the text (default: text)"
DOCUMENT_CHARS = 4 << 20  # a longer document is cut into several
OPENERS: dict[str, Callable[[io.BufferedReader], Any]] = {"gzip": gzip.open, "xz": lzma.open, "bzip2": bz2.open}
PACKED = (".gz", ".xz", ".bz2", ".parquet")  # the names of files that are never empty
DAMAGE = (EOFError, OSError, lzma.LZMAError, zlib.error)  # raised by the decompressors


class Source(NamedTuple):
    """An input: a file, or a data set `tfds:NAME`, with its size and time when it was listed; or a share of a file."""

    path: str
    bytes: int  # of the whole file
    mtime_ns: int
    content: str = ""  # hash of the content, if the place of the file has one: on the Hub
    commit: str = ""  # at which a file on the Hub is read
    share: tuple[int, int] = (0, 1)  # (i, n): the i-th of n shares of a Parquet file

    @property
    def share_bytes(self) -> int:
        """The bytes of its share."""
        number, shares = self.share
        return self.bytes * (number + 1) // shares - self.bytes * number // shares


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

    `tfds:NAME` means the training split of a data set, `hf://datasets/OWNER/NAME/PATH` files on the Hugging Face Hub.
    Raises UserError for a pattern that matches nothing.
    """
    matched = {}
    for pattern in patterns:
        if pattern.startswith(tfds.PREFIX):
            source = Source(*tfds.find(pattern), mtime_ns=0)
            matched[source.path] = source
            continue
        if pattern.startswith(hub.PREFIX):
            for file in hub.find(pattern):
                source = Source(file.path, file.bytes, 0, file.content, file.commit)
                matched[f"{source.path}@{source.commit}"] = source
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
    sources: Sequence[Source], counts: Counts, *, text_format: str = "auto", column: str = "text", first: int = 0
) -> Iterator[Document]:
    """Every document of every source, in order. Memory does not grow with the input.

    sources: to read
    counts: of what is read; grows on the way
    text_format: one of FORMATS
    column: key of JSON lines, and column of Parquet files, that holds the text
    first: number of the first of these sources among all sources

    Raises UserError for a damaged archive or a malformed record, with the file and the line. Skips nothing silently.
    """
    document = 0
    for number, source in enumerate(sources, first):
        before = counts.read_bytes
        form, paragraphs = _read(source, counts, text_format, column)
        for text, piece, is_last in _group(paragraphs, counts):
            counts.read_bytes = min(counts.read_bytes, before + source.share_bytes)
            yield Document(text, piece, number, document, form == "mediawiki")
            document += is_last
        counts.read_bytes = before + source.share_bytes


def _read(source: Source, counts: Counts, text_format: str, column: str) -> tuple[str, Iterator[str | None]]:
    """(format, paragraphs with None after each document) of one source. Its kind is found by its content."""
    if source.path.startswith(tfds.PREFIX):
        return "tfds", formats.texts(tfds.texts(source.path), counts)
    packing, form = _kind(source, text_format)
    if form == "parquet":
        return form, formats.texts(_column(source, column), counts)
    if source.share != Source._field_defaults["share"]:
        raise command.UserError(f"{source.path} is not a Parquet file: rename it")
    return form, _file(source, counts, packing, form, column)


def open_raw(source: Source) -> io.BufferedReader:
    """Opens the bytes of a file, which may be in a bucket or on the Hub, as they are stored."""
    if source.path.startswith(hub.PREFIX):
        return hub.open_file(source.path, source.commit, source.bytes)
    return epath.Path(source.path).open("rb")


def _column(source: Source, column: str) -> Iterator[bytes]:
    with open_raw(source) as raw:
        for text in parquet.texts(raw, source.path, column, source.share):
            yield text or b""  # a missing text counts as an empty document


def _kind(source: Source, text_format: str) -> tuple[str, str]:
    """(packing, format) of a file, from its beginning: a key of OPENERS or "", and a key of formats.READERS or parquet.

    `text_format`, unless it is "auto", is the format of every file that is not Parquet.
    """
    path = source.path
    with _naming(path), open_raw(source) as raw:
        head = raw.read(content.HEAD_BYTES)
        if not head and path.endswith(PACKED):
            raise EOFError("it is empty")
        packing = content.packing(head, path)
        if packing == "parquet":
            return "", packing
        raw.seek(0)
        with _unpack(raw, packing) as file:
            head = file.read(content.HEAD_BYTES)
    return packing, content.form(head, path) if text_format == "auto" else text_format


def _file(source: Source, counts: Counts, packing: str, form: str, column: str) -> Iterator[str | None]:
    """The paragraphs of a file, with None after each document. packing, form: as `_kind` returns them."""
    start, path = counts.read_bytes, source.path
    reader = functools.partial(formats.jsonl, column=column) if form == "jsonl" else formats.READERS[form]
    with _naming(path), open_raw(source) as raw, _unpack(raw, packing) as file:
        for paragraph in reader(file, path, counts):
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


def _unpack(raw: io.BufferedReader, packing: str) -> io.BufferedReader:
    return io.BufferedReader(OPENERS[packing](raw), formats.LINE_BYTES) if packing else raw


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
