"""Reads files of rows: TSV, CSV and JSON lines. Keeps the line of every row for error messages."""

import codecs
from collections.abc import Iterator
import csv
import io
import json
from pathlib import Path
from typing import NamedTuple

from etils import epath

from bert_tpu.core import command


class Columns(NamedTuple):
    """The requested columns of a file, as far as it has them."""

    path: str
    header: tuple[str, ...]  # of all columns
    lines: list[int]  # number of the line where each row ends, from 1
    values: dict[str, list[str]]  # column -> rows
    torn: list[int]  # lines with more or fewer columns than the header, which are not rows

    def column(self, name: str) -> list[str]:
        """The values of a column. Raises UserError if the file has no column of that name."""
        if name not in self.values:
            raise command.UserError(
                f"{self.path} has no column {name!r} but {', '.join(map(repr, self.header))}; correct its first line"
            )
        return self.values[name]

    def whole(self) -> "Columns":
        """Returns itself. Raises UserError if a line is torn."""
        if self.torn:
            raise command.UserError(
                f"{self.path} line {self.torn[0]} does not have the {len(self.header)} columns of the first line; "
                "correct it"
            )
        return self


def read(path: str | Path, wanted: tuple[str, ...], *, header: tuple[str, ...] | None = None) -> Columns:
    """The columns `wanted` of a .tsv, .csv or .jsonl file. Blank lines are skipped.

    In TSV a quote is a character like any other, as in GLUE's files. CSV follows RFC 4180. A line of JSON is an object;
    its numbers and truth values are read as JSON spells them.

    path: of the file; its suffix decides the format
    wanted: names of the columns
    header: names of all columns, of a file without a header line

    Raises UserError, with the line, if the file is not UTF-8, not of the format in its name, or without rows.
    """
    readers = {".tsv": _tsv, ".csv": _csv, ".jsonl": _jsonl}
    suffix = epath.Path(path).suffix
    if suffix not in readers:
        raise command.UserError(f"{path} is none of {', '.join(readers)}; convert it, or correct its name")
    rows = readers[suffix](str(path), text(path), wanted)
    if header is None:
        _, first = next(rows, (0, None))
        if first is None:
            raise command.UserError(f"{path} is empty; fetch or make it again")
        header = tuple(first)
    places = {name: header.index(name) for name in wanted if name in header}
    lines: list[int] = []
    values: dict[str, list[str]] = {name: [] for name in places}
    torn: list[int] = []
    for line, cells in rows:
        if len(cells) != len(header):
            torn.append(line)
            continue
        lines.append(line)
        for name, place in places.items():
            values[name].append(cells[place])
    columns = Columns(str(path), header, lines, values, torn)
    if not lines:
        columns.whole()
        raise command.UserError(f"{path} has no rows; fetch or make it again")
    return columns


def text(path: str | Path) -> str:
    """The text of a file without a byte order mark. Raises UserError if it is not UTF-8."""
    raw = epath.Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise command.UserError(f"{path} line {line} is not UTF-8; convert it by iconv -t UTF-8") from None


def lines(content: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1. Only LF and CR LF end a line; for str.splitlines U+2028 would, too."""
    for number, line in enumerate(content.split("\n"), start=1):
        yield number, line.removesuffix("\r")


def _tsv(path: str, content: str, wanted: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    return ((number, line.split("\t")) for number, line in lines(content) if line)


def _csv(path: str, content: str, wanted: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(max(len(content), csv.field_size_limit()))  # the default is 131,072 characters
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        yield from ((rows.line_num, row) for row in rows if row)
    except csv.Error as error:
        raise command.UserError(f"{path} line {rows.line_num} is not CSV ({error}); correct it") from None


def _jsonl(path: str, content: str, wanted: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """Yields the keys of the first object as the header, then every object's values, "" for keys not in `wanted`."""
    header: list[str] | None = None
    for number, line in lines(content):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise command.UserError(f"{path} line {number} is not a JSON object; correct it")
        if header is None:
            header = list(row)
            yield number, header
        yield number, [_plain(path, number, key, row.get(key)) if key in wanted else "" for key in header]


def _plain(path: str, number: int, key: str, value: object) -> str:
    if isinstance(value, str):
        # JSON can spell half a surrogate pair, which no tokenizer accepts.
        return value.encode(errors="surrogatepass").decode(errors="replace")
    if isinstance(value, int | float):
        return json.dumps(value)
    raise command.UserError(f"{path} line {number} has neither text nor a number under {key!r}; correct it")
