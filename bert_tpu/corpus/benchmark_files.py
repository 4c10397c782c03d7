"""Finds and reads the files of benchmarks: TSV, CSV, JSON, JSON lines, plain text and Parquet, compressed or not.

Text that is stored as words, a word a line or in a list, is also read as sentences.
"""

import collections
from collections.abc import Iterable, Iterator
import contextlib
import csv
import io
import itertools
import json
import os
from pathlib import Path
import re
from typing import Any, NamedTuple

from bert_tpu.core import command
from bert_tpu.corpus import wrapping
from bert_tpu.readers import archives, binary, content, decoding

SUFFIXES = (".tsv", ".csv", ".json", ".jsonl", ".ndjson", ".txt", ".conll", ".conllu", ".parquet")
WORD_LINES, WORD_COLUMNS = 20, 16  # lines at least, and columns at most, of a file with a word a line
# The first column of CoNLL-U: a word, a range of words that are written as one, or a word that is not written.
CONLLU_ID = re.compile(r"[0-9]+([-.][0-9]+)?")
COMMENT = "# text = "  # of a sentence of CoNLL-U
# Files that come with benchmarks and hold no test text.
BESIDES = re.compile(
    r"(readme|licen[cs]e|notice|citation|changelog)\b.*|.*\.(md|rst|py|sh|cff|bib|lock)", re.IGNORECASE
)
TRAIN = re.compile(r"(?<![a-z])train(ing|set|data|s)?(?![a-z])", re.IGNORECASE)  # not in "constrained"


class Files(NamedTuple):
    """The files in a folder of benchmarks."""

    test: list[Path]
    training: list[Path]  # left out: their text may be trained on
    other: list[Path]  # left out: without test text


def find(directory: str | os.PathLike) -> Files:
    """Returns the files below a directory. A file with the word "train" in its name or folder is a training file.

    Raises UserError if there is no test file, or a file of a kind that cannot be read.
    """
    if not os.path.isdir(directory):
        problem = "is a file: name its folder" if os.path.exists(directory) else "does not exist; correct the path"
        raise command.UserError(f"--decontaminate {directory} {problem}")
    files = Files([], [], [])
    for path in sorted(path for path in Path(directory).rglob("*") if path.is_file()):
        inner = path.relative_to(directory)
        if any(part.startswith(".") for part in inner.parts) or BESIDES.fullmatch(path.name):
            files.other.append(path)
        elif any(TRAIN.search(part) for part in inner.parts):
            files.training.append(path)
        elif _suffix(path) in SUFFIXES:
            files.test.append(path)
        else:
            raise command.UserError(
                f"{path} is none of {', '.join(SUFFIXES)}: convert it, or move it out of --decontaminate {directory}"
            )
    if not files.test:
        left_out = f" (left out as training files: {len(files.training):,})" if files.training else ""
        raise command.UserError(
            f"--decontaminate {directory} holds no test data{left_out}: name a folder of {', '.join(SUFFIXES)} files"
        )
    return files


def texts(path: Path) -> Iterator[str]:
    """Yields every text of a file: its lines or fields, or the strings in its JSON or Parquet, and UTF-8 bytes there.

    Raises UserError, with the line where there is one, if the file is damaged, not of its format or not UTF-8.
    """
    with path.open("rb") as raw:
        packing = content.packing(raw.read(content.HEAD_BYTES))
    if packing == "parquet" or _suffix(path) == ".parquet":
        yield from _parquet(path)
        return
    with archives.naming(str(path)), path.open("rb") as raw, archives.unpack(raw, packing, str(path)) as file:
        binary.refuse(file.peek(content.HEAD_BYTES), str(path))
        lines = [line for _, line in decoding.lines(file, str(path), decoding.Counts(), limit=1 << 30)]
    yield from _word_lines(lines)
    match _suffix(path):
        case ".json" | ".jsonl" | ".ndjson":
            yield from _json(path, lines)
        case ".csv":
            yield from _csv(path, lines)
        case ".tsv":
            for line in lines:
                for field in line.split("\t"):
                    yield field
                    if field.startswith('"') and field.endswith('"') and len(field) > 1:
                        yield field[1:-1].replace('""', '"')  # as spreadsheets write it
        case _:
            yield from wrapping.join("\n".join(line.removeprefix(COMMENT) for line in lines)).split("\n")


def _word_lines(lines: list[str]) -> Iterator[str]:
    """Yields the text between blank lines of a file with a word and its tags a line, such as CoNLL's; else nothing."""
    kept = (line for line in lines if not line.startswith("#"))
    rows = [line.split("\t") if line.count("\t") == 9 else line.split() for line in kept]  # CoNLL-U has spaces in words
    widths = collections.Counter(len(row) for row in rows if row)
    width, count = widths.most_common(1)[0] if widths else (0, 0)
    if count < max(WORD_LINES, 0.99 * widths.total()) or width > WORD_COLUMNS:
        return
    whole = [row for row in rows if len(row) == width]
    is_conllu = width == 10 and all(CONLLU_ID.fullmatch(row[0]) for row in whole)
    # Elsewhere most different cells are in the column of the words: tags repeat.
    varied = [len({cell for cell in column if not cell.isdigit()}) for column in zip(*whole, strict=True)]
    word = 1 if is_conllu else varied.index(max(varied))
    for is_filled, group in itertools.groupby(rows, bool):
        if is_filled:
            words = (row for row in group if len(row) == width)
            yield " ".join(row[word] for row in (_written(words) if is_conllu else words))


def _written(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    """Yields the rows of a sentence of CoNLL-U whose words are written: 2-3, but neither its parts 2 and 3 nor 8.1."""
    last = 0
    for row in rows:
        first, hyphen, end = row[0].partition("-")
        if hyphen:
            last = int(end)
        elif "." in first or int(first) <= last:
            continue
        yield row


def _suffix(path: Path) -> str:
    return Path(content.SUFFIXES.sub("", path.name.lower())).suffix


def _csv(path: Path, lines: list[str]) -> Iterator[str]:
    text = "\n".join(lines)
    csv.field_size_limit(max(len(text), csv.field_size_limit()))  # the default is 131,072 characters
    delimiter = max(",;\t", key=lines[0].count) if lines else ","
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start = 0
    try:
        for row in rows:
            yield from row
            start = rows.line_num
    except csv.Error as error:
        raise command.UserError(
            f"{path} line {start + 1} begins a row that is not CSV ({error}): correct its quotes, or rename the file "
            "to .txt, whose lines are read as they are"
        ) from None


def _json(path: Path, lines: list[str]) -> Iterator[str]:
    """Yields the strings of a JSON document, or of JSON lines, whichever the file has."""
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(filled) > 1 and _is_json(filled[0][1]):
        for number, line in filled:
            yield from _strings(_loads(path, line, number))
    elif filled:
        yield from _strings(_loads(path, "\n".join(lines), 1))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _loads(path: Path, text: str, line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as fault:
        where = line + fault.lineno - 1 if isinstance(fault, json.JSONDecodeError) else line
        problem = fault.msg if isinstance(fault, json.JSONDecodeError) else "it is nested too deeply"
        raise command.UserError(
            f"{path} line {where} is not valid JSON ({problem}): fix it or remove the file"
        ) from None


def _parquet(path: Path) -> Iterator[str]:
    command.require(str(path), "pyarrow", extra="corpus")
    import pyarrow
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from _strings(batch.to_pylist())
    except (pyarrow.ArrowException, OSError) as fault:
        reason = str(fault).splitlines()[0]
        raise command.UserError(f"{path} is not sound Parquet ({reason}): fetch or make it again") from None


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value.encode(errors="surrogatepass").decode(errors="replace")
        case bytes():  # of Parquet: text as binary, or a picture
            with contextlib.suppress(UnicodeDecodeError):
                yield value.decode()
        case dict():
            for member in value.values():
                yield from _strings(member)
        case list():
            if len(value) > 1 and all(isinstance(member, str) and len(member.split()) == 1 for member in value):
                yield from _strings(" ".join(value))  # a sentence in words
            for member in value:
                yield from _strings(member)
