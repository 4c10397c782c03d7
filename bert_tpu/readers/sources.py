"""Text sources: files of several formats, compressed or not, as one stream of documents."""

import bz2
from collections.abc import Iterator, Sequence
import contextlib
import fnmatch
import glob
import gzip
import io
import lzma
import os
from pathlib import Path
from typing import NamedTuple
import zlib

from etils import epath

from bert_tpu.core import command, storage
from bert_tpu.readers import formats, parquet, tfds
from bert_tpu.readers.formats import Counts

FORMATS = ("auto", *formats.READERS)
HELP = (
    "text: a paragraph a line, blank lines between documents; file: a document a file; jsonl: "
    "objects with a `text`; wiki: WikiExtractor's <doc>; mediawiki: an XML dump; auto tells by name and first line"
)
DOCUMENT_CHARS = 4 << 20  # a longer document becomes several
STARTS = {"<doc ": "wiki", "<mediawiki": "mediawiki"}  # of the first line
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
    source: int  # its number among the sources
    number: int  # among the documents of the call that reads it; the pieces of one have the same
    is_markup: bool  # Wikipedia's, to be made plain

    def plain(self) -> str:
        """The text without markup."""
        if not self.is_markup:
            return self.text
        from bert_tpu.readers import wikitext

        return wikitext.text(self.text)


def find(patterns: list[str]) -> list[Source]:
    """The files that match any of the globs (`**` goes down), each once, sorted by path.

    `tfds:NAME` stands for the training split of a data set. Raises UserError for a pattern that
    matches nothing.
    """
    found = {}
    for pattern in patterns:
        if pattern.startswith(tfds.PREFIX):
            source = Source(*tfds.find(pattern), mtime_ns=0)
            found[source.path] = source
            continue
        if storage.is_bucket(pattern):
            found |= {source.path: source for source in _in_bucket(pattern)}
            continue
        matches = [pattern] if os.path.isfile(pattern) else glob.glob(pattern, recursive=True)
        files = [os.path.normpath(path) for path in sorted(matches) if os.path.isfile(path)]
        if not files:
            raise command.UserError(f"no file matches the input {pattern!r}; check it (for a directory give 'DIR/*')")
        for path in files:
            stat = os.stat(path)
            found.setdefault(os.path.realpath(path), Source(path, stat.st_size, stat.st_mtime_ns))
    return sorted(found.values())


def _in_bucket(pattern: str) -> list[Source]:
    """The files of a bucket that match; a glob in the last part of the path alone."""
    path = epath.Path(pattern)
    matches = [path] if path.is_file() else [p for p in path.parent.iterdir() if fnmatch.fnmatch(p.name, path.name)]
    found = [Source(os.fspath(p), p.stat().length, p.stat().mtime * 10**9) for p in matches if p.is_file()]
    if not found:
        raise command.UserError(f"no file matches the input {pattern!r}; in a bucket a * may stand in a file's name")
    return found


def documents(
    sources: Sequence[Source], counts: Counts, *, text_format: str = "auto", first: int = 0
) -> Iterator[Document]:
    """Every document of every source in order, in memory that does not grow with the input.

    first: the number of the first of these sources among all that there are.
    Raises UserError naming the file, and the line where there is one, for a damaged archive or a
    malformed record: nothing is skipped in silence.
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


def _file(path: str, counts: Counts, format: str) -> Iterator[str | None]:
    """The paragraphs of a file; None ends a document."""
    start = counts.read_bytes
    with _naming(path), epath.Path(path).open("rb") as raw, _unpack(raw, path) as file:
        for paragraph in formats.READERS[format](file, path, counts):
            counts.read_bytes = start + raw.tell()
            yield paragraph


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """A damaged archive is named by a UserError."""
    try:
        yield
    except DAMAGE as fault:
        if getattr(fault, "errno", None) is not None:  # the system's, not the archive's
            raise
        raise command.UserError(f"{path} is damaged or cut short ({fault}); fetch or make it again") from None


def _unpack(raw: io.BufferedReader, path: str) -> io.BufferedReader:
    opener = OPENERS.get(Path(path).suffix)
    if opener is None:
        return raw
    if epath.Path(path).stat().length == 0:
        raise EOFError("it is empty")  # gzip takes it for a file without text
    return io.BufferedReader(opener(raw), formats.LINE_BYTES)


def _detect(path: str) -> str:
    """The format of a file, by its name without the archive's suffix, then by its first line."""
    name = Path(path).with_suffix("") if Path(path).suffix in OPENERS else Path(path)
    if name.suffix in (".jsonl", ".json", ".ndjson"):
        return "jsonl"
    with _naming(path), epath.Path(path).open("rb") as raw, _unpack(raw, path) as file:
        first = next((line for _, line in formats.lines(file, path, Counts()) if line.strip()), "")
    return next((format for start, format in STARTS.items() if first.startswith(start)), "text")


def _group(paragraphs: Iterator[str | None], counts: Counts) -> Iterator[tuple[str, bool, bool]]:
    """(text, whether it is a piece, whether it ends its document) of documents of paragraphs.

    A document of more than DOCUMENT_CHARS is cut and counted.
    """
    held, size, cut = [], 0, False
    for paragraph in paragraphs:
        if paragraph is None:
            if held:
                yield "\n".join(held), cut, True
            held, size, cut = [], 0, False
            continue
        if held and size + len(paragraph) > DOCUMENT_CHARS:
            yield "\n".join(held), True, False
            counts.cut_documents += not cut
            held, size, cut = [], 0, True
        held.append(paragraph)
        size += len(paragraph) + 1
