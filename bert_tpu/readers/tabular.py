"""Files of rows: TSV to the letter, CSV with its quotes, JSON lines; with the line of every row for complaints."""

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
    """The columns of a file that were asked for and are there."""

    path: str
    header: tuple[str, ...]  # of all columns
    lines: list[int]  # where each row ends in the file, from 1
    values: dict[str, list[str]]  # column -> rows
    torn: list[int]  # lines that are no rows: they have fewer columns than the header, or more

    def column(self, name: str) -> list[str]:
        """The rows of a column; raises UserError if the file has none of that name."""
        if name not in self.values:
            raise command.UserError(
                f"{self.path} has no column {name!r} but {', '.join(map(repr, self.header))}; mend its first line"
            )
        return self.values[name]

    def whole(self) -> "Columns":
        """Itself; raises UserError if a line is torn."""
        if self.torn:
            raise command.UserError(
                f"{self.path} line {self.torn[0]} has not the {len(self.header)} columns of the first line; mend it"
            )
        return self


def read(path: str | Path, wanted: tuple[str, ...], *, header: tuple[str, ...] | None = None) -> Columns:
    """The columns `wanted` of a .tsv, .csv or .jsonl file. Blank lines are none.

    TSV is read to the letter: a quote is a character like any other, as in GLUE's files. CSV follows RFC 4180. A line
    of JSON is an object; its numbers and truth values are taken as JSON spells them. header: of a file that has none.
    Raises UserError, with the line, where the file is not UTF-8, not what its name says, or without rows.
    """
    readers = {".tsv": _tsv, ".csv": _csv, ".jsonl": _jsonl}
    suffix = epath.Path(path).suffix
    if suffix not in readers:
        raise command.UserError(f"{path} is none of {', '.join(readers)}; convert it, or mend its name")
    rows = readers[suffix](str(path), text(path), wanted)
    if header is None:
        _, first = next(rows, (0, None))
        if first is None:
            raise command.UserError(f"{path} is empty; fetch or make it again")
        header = tuple(first)
    places = {name: header.index(name) for name in wanted if name in header}
    lines, values, torn = [], {name: [] for name in places}, []
    for line, cells in rows:
        if len(cells) != len(header):
            torn.append(line)
            continue
        lines.append(line)
        for name, place in places.items():
            values[name].append(cells[place])
    found = Columns(str(path), header, lines, values, torn)
    if not lines:
        found.whole()
        raise command.UserError(f"{path} has no rows; fetch or make it again")
    return found


def text(path: str | Path) -> str:
    """A file's text without a byte order mark; raises UserError where it is not UTF-8."""
    raw = epath.Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode()
    except UnicodeDecodeError as fault:
        line = raw.count(b"\n", 0, fault.start) + 1
        raise command.UserError(f"{path} line {line} is not UTF-8; convert it by iconv -t UTF-8") from None


def lines(content: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, ended by LF or CR LF alone; str.splitlines would end one at a U+2028 as well."""
    for number, line in enumerate(content.split("\n"), start=1):
        yield number, line.removesuffix("\r")


def _tsv(path: str, content: str, wanted: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    return ((number, line.split("\t")) for number, line in lines(content) if line)


def _csv(path: str, content: str, wanted: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(max(len(content), csv.field_size_limit()))  # of 131,072 characters else
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    try:
        yield from ((rows.line_num, row) for row in rows if row)
    except csv.Error as fault:
        raise command.UserError(f"{path} line {rows.line_num} is not CSV ({fault}); mend it") from None


def _jsonl(path: str, content: str, wanted: tuple[str, ...]) -> Iterator[tuple[int, list[str]]]:
    """The keys of the first object, then what every object has under those of them that are wanted."""
    header = None
    for number, line in lines(content):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise command.UserError(f"{path} line {number} is not a JSON object; mend it")
        if header is None:
            header = list(found)
            yield number, header
        yield number, [_plain(path, number, key, found.get(key)) if key in wanted else "" for key in header]


def _plain(path: str, number: int, key: str, value: object) -> str:
    if isinstance(value, str):
        # JSON can spell half a surrogate pair, which no tokenizer takes.
        return value.encode(errors="surrogatepass").decode(errors="replace")
    if isinstance(value, int | float):
        return json.dumps(value)
    raise command.UserError(f"{path} line {number} has neither text nor a number under {key!r}; mend it")
