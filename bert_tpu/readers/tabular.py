"""Reads files of rows: TSV, CSV, JSON and Parquet. Keeps the line of every row for error messages."""

import codecs
from collections.abc import Iterator, Mapping
import csv
import io
from pathlib import Path
from typing import NamedTuple

from etils import epath

from bert_tpu.core import command, numerals
from bert_tpu.readers import annotation_tools, column_names, quote_notes, typed_rows

SEPARATORS = {".tsv": "\t", ".csv": ","}
# First bytes of files that are not tables -> what to do with them.
SIGNATURES = {
    b"\x1f\x8b": "is compressed by gzip; decompress it by gunzip",
    b"BZh9": "is compressed by bzip2; decompress it by bunzip2",
    b"\xfd7zXZ": "is compressed by xz; decompress it by unxz",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; decompress it by unzstd",
    b"PK\x03\x04": "is a ZIP archive or an Excel file; unpack it, or save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "is an Excel file; save the sheet as CSV UTF-8",
    b"PAR1\x15": "is a Parquet file; name it .parquet",
    b"ARROW1\0\0": "is an Arrow file; save it as .parquet",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself; fetch it by git lfs pull",
    b"<!DOCTYPE html": "is a web page; fetch the file itself",
    b"<!doctype html": "is a web page; fetch the file itself",
    b"<html": "is a web page; fetch the file itself",
    codecs.BOM_UTF16_LE: "is UTF-16, not UTF-8; convert it by iconv -f UTF-16 -t UTF-8",
    codecs.BOM_UTF16_BE: "is UTF-16, not UTF-8; convert it by iconv -f UTF-16 -t UTF-8",
}
BOM = "\ufeff"  # in the middle of files that were written one after the other
PROBED = 100  # rows that are compared with a first line without known names


class Columns(NamedTuple):
    """The requested columns of a file, as far as it has them."""

    path: str
    header: tuple[str, ...]  # of all columns
    lines: list[int]  # number of the line where each row ends, from 1
    values: dict[str, list[str]]  # column -> rows
    torn: list[int]  # lines with more or fewer columns than the header, which are not rows
    unit: str = "line"  # what `lines` count: lines, or rows of a file without lines of its own
    # Column -> kinds of its values -> line of the first. None of a file whose values are all text.
    kinds: Mapping[str, Mapping[str, int]] | None = None
    has_names: bool = True  # False if the first line is probably a row like the others
    notes: tuple[str, ...] = ()  # what the user should know
    torn_hint: str = "of the first line; correct it"  # the end of a sentence about torn lines

    def column(self, name: str, hint: str = "") -> list[str]:
        """The values of a column. Raises UserError, which ends with `hint`, if the file has none of that name."""
        if name not in self.values:
            raise command.UserError(
                f"{self.path} has no column {name!r} but {', '.join(map(repr, self.header))}; "
                + (f"{column_names.remedy(name, self.header)}{hint}" if self.has_names else column_names.ROW)
            )
        return self.values[name]

    def place(self, row: int) -> str:
        """The beginning of an error message about a row, from 0: the file and the line."""
        return f"{self.path} {self.unit} {self.lines[row]}"

    def whole(self) -> "Columns":
        """Returns itself. Raises UserError if a line is torn."""
        if self.torn:
            raise command.UserError(
                f"{self.path} line {self.torn[0]} does not have the {len(self.header)} columns {self.torn_hint}"
            )
        return self


def read(
    path: str | Path, wanted: tuple[str, ...], *, header: tuple[str, ...] | None = None, nullable: tuple[str, ...] = ()
) -> Columns:
    """The columns `wanted` of a .tsv, .csv, .jsonl, .json or .parquet file. Blank lines are skipped.

    In TSV a quote is a character like any other, as in GLUE's files. CSV follows RFC 4180. JSON is one object a line or
    an array of objects, whichever of the two names the file has; its numbers and truth values are read as JSON spells
    them. A Parquet file that names the classes of its numbers, as Hugging Face's datasets do, is read with the names.

    path: of the file; its suffix decides the format
    wanted: names of the columns
    header: names of all columns, of a file without a header line
    nullable: names of columns that typed files may leave out in some rows, or have null or NaN in: read as ""

    Raises UserError, with the line, if the file is not UTF-8, not of the format in its name, or without rows, and if
    two of its columns have a wanted name.
    """
    suffix, name = epath.Path(path).suffix, str(path)
    if not suffix and epath.Path(path).is_dir():
        raise command.UserError(f"{path} is a folder; name a file in it")
    if suffix == typed_rows.PARQUET:
        return _typed(name, typed_rows.parquet(name, wanted), wanted, nullable)
    if suffix in typed_rows.JSON:
        return _typed(name, typed_rows.json_rows(name, _separate_lines(name, text(path))), wanted, nullable)
    if suffix not in SEPARATORS:
        suffixes = ", ".join((*SEPARATORS, *typed_rows.JSON, typed_rows.PARQUET))
        with epath.Path(path).open("rb") as file:
            start = file.read(max(map(len, SIGNATURES)))
        if problem := next((problem for signature, problem in SIGNATURES.items() if start.startswith(signature)), ""):
            raise command.UserError(f"{path} {problem}{'' if 'name it' in problem else f'; tables are {suffixes}'}")
        raise command.UserError(f"{path} is none of {suffixes}; decompress or convert it, or correct its name")
    return _untyped(name, text(path), SEPARATORS[suffix], wanted, header)


def _untyped(
    path: str, content: str, separator: str, wanted: tuple[str, ...], header: tuple[str, ...] | None
) -> Columns:
    """Returns the columns of a file whose cells are all text."""
    hint = f"{', '.join(header) if header else 'of the first line'}; correct it"
    if header is None:
        column_names.check_separator(path, content, separator, wanted)
    notes: list[str] = []
    rows = _csv(path, content, notes) if separator == "," else _tsv(path, _separate_lines(path, content))
    if header is None:
        _, first = next(rows, (0, None))
        if first is None:
            raise command.UserError(f"{path} is empty; fetch or make it again")
        header = tuple(first)
        if separator == "\t" and all(len(name) > 1 and name[0] == name[-1] == '"' for name in header):
            raise command.UserError(
                f"{path} has its cells in quotes, which TSV takes for text; save it as CSV, in R by write.csv(x, FILE, "
                "row.names = FALSE)"
            )
    column_names.check_unique(path, header, wanted)
    places = {name: header.index(name) for name in wanted if name in header}
    lines: list[int] = []
    values: dict[str, list[str]] = {name: [] for name in places}
    torn: list[int] = []
    probe, names = [], list(header)
    for line, cells in rows:
        if len(cells) != len(header):
            torn.append(line)
            continue
        if cells[-1] == names[-1] and [cell.removeprefix(BOM) for cell in cells] == names:
            raise command.UserError(f"{path} line {line} has the names of the columns again; take it out")
        if len(lines) < PROBED and not places:
            probe.append(cells)
        lines.append(line)
        for name, place in places.items():
            values[name].append(cells[place])
    notes.extend(quote_notes.notes(path, separator, lines, values))
    if separator == "\t" and '"' in content:
        hint += ", or save the file as CSV if its quotes hold tabs or line breaks together"
    columns = Columns(path, header, lines, values, torn, notes=tuple(notes), torn_hint=hint)
    if not lines:
        columns.whole()
        raise command.UserError(f"{path} has no rows; fetch or make it again")
    return columns._replace(has_names=not (probe and column_names.is_row(header, probe)))


def _typed(path: str, table: typed_rows.Table, wanted: tuple[str, ...], nullable: tuple[str, ...]) -> Columns:
    """Returns the columns of a file whose values have types."""
    if not table.rows:
        raise command.UserError(f"{path} has no rows; fetch or make it again")
    annotation_tools.check(path, table.rows, table.numbers, table.unit, wanted)
    columns = typed_rows.spell(path, table, wanted, nullable)
    return Columns(path, tuple(table.keys), table.numbers, columns.values, [], table.unit, columns.kinds)


def text(path: str | Path) -> str:
    """The text of a file without a byte order mark. Raises UserError if it is not UTF-8, or has NUL characters."""
    raw = epath.Path(path).read_bytes().removeprefix(codecs.BOM_UTF8)
    for signature, problem in SIGNATURES.items():
        if raw.startswith(signature):
            raise command.UserError(f"{path} {problem}")
    if (place := raw.find(0)) >= 0:
        line = raw.count(b"\n", 0, place) + 1
        raise command.UserError(f"{path} line {line} has a NUL character: it is damaged or not UTF-8; make it again")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise command.UserError(
            f"{path} line {line} is not UTF-8; convert it, for example by iconv -f WINDOWS-1252 -t UTF-8"
        ) from None


def lines(content: str) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, from 1. Only LF ends a line, after any CRs; for str.splitlines U+2028 would, too.

    CR CR LF is a CR LF that was converted again.
    """
    for number, line in enumerate(content.split("\n"), start=1):
        yield number, line.rstrip("\r")


def _separate_lines(path: str, content: str) -> str:
    """Returns `content`. Raises UserError if CR alone ends its lines, as on old Macs."""
    if "\r" in content.partition("\n")[0].rstrip("\r"):
        raise command.UserError(f"{path} ends its lines by CR alone; convert it by tr '\\r' '\\n'")
    return content


def _tsv(path: str, content: str) -> Iterator[tuple[int, list[str]]]:
    return _without_blanks(path, ((number, line.split("\t") if line else []) for number, line in lines(content)))


def _csv(path: str, content: str, notes: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Yields rows, and adds a note if some go over several lines: an unclosed quote swallows the lines after it."""
    csv.field_size_limit(max(len(content), csv.field_size_limit()))  # the default is 131,072 characters
    return _without_blanks(path, _csv_rows(path, content, notes))


def _csv_rows(path: str, content: str, notes: list[str]) -> Iterator[tuple[int, list[str]]]:
    rows = csv.reader(io.StringIO(content, newline=""), strict=True)
    first = count = longest = line = 0
    try:
        for row in rows:
            if rows.line_num - line > 1:
                first, count, longest = first or line + 1, count + 1, max(longest, rows.line_num - line)
            line = rows.line_num
            yield line, row
    except csv.Error as error:
        if "unexpected end" in str(error):
            raise command.UserError(
                f"{path} line {line + 1} begins a row with a quote that is never closed; close or double it"
            ) from None
        begin = f", in the row that begins in line {line + 1}" if rows.line_num > line + 1 else ""
        raise command.UserError(
            f"{path} line {rows.line_num} is not CSV ({error}){begin}; correct its quotes"
        ) from None
    if count:
        notes.append(
            f"{path}: {numerals.count(count, 'row')} with line breaks within quotes, the first from line "
            f"{first:,}; the longest has {longest:,} lines"
        )


def _without_blanks(path: str, rows: Iterator[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    """Yields the rows that are not blank lines. Raises UserError for a blank one that may be an empty text."""
    is_single, blank = False, 0
    for line, cells in rows:
        if not cells:
            blank = blank or line
            continue
        if blank and is_single:
            raise command.UserError(
                f"{path} line {blank} is blank, either an empty text or not a row; take it out, or write JSON lines"
            )
        is_single, blank = len(cells) == 1, 0
        yield line, cells
