"""Text sources: files of several formats, compressed or not, as one stream of documents."""

from collections.abc import Generator, Iterator, Sequence
import concurrent.futures
import fnmatch
import io
import itertools
import os
from typing import Any, NamedTuple

from etils import epath

from bert_tpu.core import command, storage
from bert_tpu.readers import archives, arrow, binary, content, formats, globs, hub, parquet, suspicions, tfds, wikitext
from bert_tpu.readers.decoding import Counts

FORMATS = ("auto", *formats.READERS)
HELP = (
    "text: a paragraph a line, blank lines between documents; file: a document a file; "
    "endoftext: <|endoftext|> between documents; jsonl: "
    "objects with a `text`; wiki: WikiExtractor's <doc>; mediawiki: an XML dump; wikitext: WikiText-103; "
    "wet: a web archive's text; "
    "auto: by the file's beginning"
)
COLUMN_HELP = "the key of JSON lines, or the column of Parquet and Arrow files, that holds the text (default: text)"
CHECKED = 1000  # files, which take about a second
REQUESTS = 32  # at once, for the files of a bucket
DOCUMENT_CHARS = 4 << 20  # a longer document is cut into several
COLUMNAR = ("parquet", "arrow")
WHOLE = (0, 1)  # the share of a whole file
PACKED = (".gz", ".xz", ".bz2", ".zst", ".parquet", ".arrow")  # the names of files that are never empty


class Source(NamedTuple):
    """An input: a file, or a data set `tfds:NAME`, with its size and time when it was listed; or a share of a file."""

    path: str
    bytes: int  # of the whole file
    mtime_ns: int
    content: str = ""  # hash of the content, if the place of the file has one: on the Hub
    commit: str = ""  # at which a file on the Hub is read
    share: tuple[int, int] = WHOLE  # (i, n): the i-th of n shares of a Parquet file

    @property
    def share_bytes(self) -> int:
        """The bytes of its share."""
        number, shares = self.share
        return self.bytes * (number + 1) // shares - self.bytes * number // shares


class Kind(NamedTuple):
    """The kind of a file, from its beginning."""

    packing: str  # as content.packing returns it
    form: str  # a key of formats.READERS, or one of COLUMNAR
    head: bytes  # the first bytes, unpacked


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
        from bert_tpu.wikitext import prose

        return prose.text(self.text)

    def gaps(self) -> list[str]:
        """The names of templates of which only a gap within a sentence is left in `plain`."""
        from bert_tpu.wikitext import prose

        return prose.gaps(self.text) if self.is_markup else []


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
        hub.refuse_page(pattern)
        if pattern.startswith(hub.PREFIX):
            for file in hub.find(pattern):
                source = Source(file.path, file.bytes, 0, file.content, file.commit)
                matched[f"{source.path}@{source.commit}"] = source
            continue
        if storage.is_bucket(pattern):
            matched |= {source.path: source for source in _in_bucket(pattern)}
            continue
        for path in globs.find(pattern):
            stat = os.stat(path)
            matched.setdefault(os.path.realpath(path), Source(path, stat.st_size, stat.st_mtime_ns))
    return sorted(matched.values())


def _in_bucket(pattern: str) -> list[Source]:
    """The files of a bucket that match. Only the last part of the path may have a glob."""
    path = epath.Path(pattern)
    matches = [path] if path.is_file() else [p for p in path.parent.iterdir() if fnmatch.fnmatch(p.name, path.name)]
    with concurrent.futures.ThreadPoolExecutor(REQUESTS) as pool:  # each request waits for the network
        stats = list(pool.map(lambda file: file.stat(), matches))
    found = zip(matches, stats, strict=True)
    files = [Source(os.fspath(p), stat.length, stat.mtime * 10**9) for p, stat in found if not stat.is_directory]
    if not files:
        raise command.UserError(f"no file matches the input {pattern!r}; in a bucket only a file's name may have a *")
    return files


def check(sources: Sequence[Source], *, text_format: str, column: str) -> None:
    """Raises UserError if the first document of a file cannot be read: before hours of work, not in them.

    Reads at most CHECKED files, evenly spread, and none from the network.
    """
    local = [
        source for source in sources if not storage.is_bucket(source.path) and not source.path.startswith(tfds.PREFIX)
    ]
    for source in local[:: len(local) // CHECKED + 1]:
        first = documents([source], Counts(), text_format=text_format, column=column)
        next(first, None)
        first.close()


def documents(
    sources: Sequence[Source], counts: Counts, *, text_format: str = "auto", column: str = "text", first: int = 0
) -> Generator[Document]:
    """Every document of every source, in order. Memory does not grow with the input.

    sources: to read
    counts: of what is read; grows on the way
    text_format: one of FORMATS
    column: key of JSON lines, and column of Parquet and Arrow files, that holds the text
    first: number of the first of these sources among all sources

    Raises UserError for a damaged archive or a malformed record, with the file and the line. Skips nothing silently.
    """
    document = 0
    for number, source in enumerate(sources, first):
        before = counts.read_bytes
        form, paragraphs = _read(source, counts, text_format, column)
        if source.share[0] == 0:
            name = form if source.bytes else "empty"
            counts.forms[name] = counts.forms.get(name, 0) + 1
        for text, piece, is_last in _group(paragraphs, counts):
            counts.read_bytes = min(counts.read_bytes, before + source.share_bytes)
            if form != "mediawiki":  # whose markup is resolved later
                suspicions.count(text, counts)
            yield Document(text, piece, number, document, form == "mediawiki")
            document += is_last
        counts.read_bytes = before + source.share_bytes


def _read(source: Source, counts: Counts, text_format: str, column: str) -> tuple[str, Iterator[str | None]]:
    """(format, paragraphs with None after each document) of one source. Its kind is found by its content."""
    if source.path.startswith(tfds.PREFIX):
        return "tfds", formats.texts(tfds.texts(source.path), source.path, counts)
    kind = _kind(source, text_format)
    if kind.form in COLUMNAR and (kind.form == "parquet" or source.share == WHOLE):
        are_lines, texts = wikitext.rows(_column(source, kind, column))
        if not are_lines:
            return kind.form, formats.texts(texts, source.path, counts)
        number, shares = source.share
        later = (source._replace(share=(i, shares)) for i in range(number + 1, shares))
        following = itertools.chain.from_iterable(_column(one, kind, column) for one in later)
        return kind.form, wikitext.from_rows(texts, source.path, counts, is_start=number == 0, following=following)
    if source.share != WHOLE:
        raise command.UserError(f"{source.path} is not a Parquet file: rename it")
    return kind.form, _file(source, counts, kind, column)


def form(source: Source, text_format: str) -> str:
    """The format of a source: a key of formats.READERS, parquet or tfds. text_format: one of FORMATS."""
    return "tfds" if source.path.startswith(tfds.PREFIX) else _kind(source, text_format).form


def open_raw(source: Source) -> io.BufferedReader:
    """Opens the bytes of a file, which may be in a bucket or on the Hub, as they are stored."""
    if source.path.startswith(hub.PREFIX):
        return hub.open_file(source.path, source.commit, source.bytes)
    return epath.Path(source.path).open("rb")


def _column(source: Source, kind: Kind, column: str) -> Iterator[bytes]:
    with open_raw(source) as raw:
        if kind.form == "parquet":
            texts = parquet.texts(raw, source.path, column, source.share)
        else:
            texts = arrow.texts(raw, source.path, column)
        for text in texts:
            yield text or b""  # a missing text counts as an empty document


def _kind(source: Source, text_format: str) -> Kind:
    """The kind of a file. `text_format`, unless it is "auto", is the format of every file that has no columns.

    Raises UserError for a file that is not text, with every `text_format`, and for an empty file of a packed kind.
    """
    path = source.path
    with archives.naming(path), open_raw(source) as raw:
        head = raw.read(content.HEAD_BYTES)
        if not head and path.endswith(PACKED):
            raise EOFError("it is empty")
        packing = content.packing(head)
        if packing in COLUMNAR:
            return Kind("", packing, head)
        name = path
        if packing:
            raw.seek(0)
            with archives.unpack(raw, packing, path) as file:
                head = file.read(content.HEAD_BYTES)
            name = f"the content of {path}, unpacked by {packing},"
            if inner := content.packing(head):
                raise command.UserError(f"{name} is {inner}: unpack it once, and give that file")
    binary.refuse(head, name)
    return Kind(packing, content.form(head, path) if text_format == "auto" else text_format, head)


def _file(source: Source, counts: Counts, kind: Kind, column: str) -> Iterator[str | None]:
    """The paragraphs of a file, with None after each document."""
    start, path = counts.read_bytes, source.path
    options: dict[str, dict[str, Any]] = {"jsonl": {"head": kind.head, "column": column}, "wiki": {"head": kind.head}}
    with archives.naming(path), open_raw(source) as raw, archives.unpack(raw, kind.packing, path) as file:
        for paragraph in formats.READERS[kind.form](file, path, counts, **options.get(kind.form, {})):
            counts.read_bytes = start + raw.tell()
            yield paragraph


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
