"""Names of a table's columns: doubled names, other separators, and what to do about a name that is not there."""

import csv
import re

from bert_tpu.core import command

SEPARATORS = {",": "','", ";": "';'", "\t": "tabs", "|": "'|'"}
SUFFIXES = {",": ".csv", "\t": ".tsv"}
LONGEST = 60  # characters of a column's name
ROW = "its first line looks like a row: add a line with the names of the columns before it"


def check_separator(path: str, content: str, separator: str, wanted: tuple[str, ...]) -> None:
    """Raises UserError if something else than `separator` divides the first line into columns."""
    if content[:4].casefold() == "sep=":
        raise command.UserError(f"{path} begins with Excel's line {content.splitlines()[0][:20]!r}; take it out")
    line = next((line for line in content.split("\n") if line.strip()), "").removesuffix("\r")
    header = _cells(line, separator)
    if set(wanted) & set(header):
        return
    if line[:1] in ("{", "["):
        raise command.UserError(f"{path} is JSON, not {SUFFIXES[separator]}; name it .jsonl")
    for other in SEPARATORS:
        cells = _cells(line, other)
        looks_divided = len(header) == 1 < len(cells) < 20 and _is_short(cells)
        if other != separator and (set(wanted) & set(cells) or looks_divided):
            name = f", or name it {SUFFIXES[other]}" if other in SUFFIXES else ""
            raise command.UserError(
                f"{path} is divided by {SEPARATORS[other]} where {SUFFIXES[separator]} has {SEPARATORS[separator]}; "
                f"save it with {SEPARATORS[separator]}{name}"
            )


def _cells(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return line.split(separator)


def _is_short(cells: list[str]) -> bool:
    """Returns whether all cells look like names: one or two words."""
    return all(re.fullmatch(r"\s*\w+([ .-]\w+)?\s*", cell) for cell in cells)


def check_unique(path: str, header: tuple[str, ...], wanted: tuple[str, ...]) -> None:
    """Raises UserError if two columns have a wanted name."""
    for name in wanted:
        if (count := header.count(name)) > 1:
            raise command.UserError(f"{path} has {count} columns {name!r}; rename the others in its first line")


def is_row(header: tuple[str, ...], rows: list[list[str]]) -> bool:
    """Returns whether a first line is probably a row: it has a number, a long text, or a cell that returns below."""
    columns = zip(header, zip(*rows, strict=True), strict=True)
    return any(
        len(name) > LONGEST or re.fullmatch(r"-?\d+(\.\d+)?", name) or (name and name in cells)
        for name, cells in columns
    )


def remedy(name: str, header: tuple[str, ...]) -> str:
    """Returns what to do about a file that lacks the column `name`."""
    other = near(name, header)
    return f"rename {other!r}" if other else "rename a column"


def near(name: str, header: tuple[str, ...]) -> str:
    """Returns the first name that differs from `name` only by case, spaces and punctuation; "" if there is none."""
    return next((other for other in header if _plain(other) == _plain(name)), "")


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold()) or name
