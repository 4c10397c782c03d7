"""Reads tagged sentences from rows with lists of words and tags: JSON lines, a list of JSON objects, or Parquet."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any, NamedTuple

from bert_tpu.core import command
from bert_tpu.readers import tabular, typed_rows
from bert_tpu.tasks import conll

WORD_KEYS = ("tokens", "words")
TAG_KEYS = ("ner_tags", "ner", "tags", "labels")  # the first of them that a file has


class Read(NamedTuple):
    """The sentences of a file."""

    words: list[list[str]]
    tags: list[list[str]] | None
    rows: list[int]  # from 1: number of each sentence's line, or its place in the list
    left_out: int  # rows without words, or with conll.DOCUMENT instead of a sentence
    note: str


def is_json(content: str) -> bool:
    """Whether text begins as a JSON object or a list of them, and not as the words { or [ of a file of columns."""
    start = content.lstrip()
    if start.startswith("{"):
        return '"' in start.partition("\n")[0] or start[1:].lstrip()[:1] == '"'
    return start.startswith("[") and (start[1:].lstrip()[:1] in ("{", "]") or start[1:].lstrip().startswith('["'))


def read_json(path: str | Path, content: str, word: str, tag: str, *, may_lack_tags: bool) -> Read:
    """Returns the sentences of a JSON file. Arguments and errors are those of `read_parquet`."""
    return _read(path, _records(path, content), word, tag, {}, may_lack_tags=may_lack_tags)


def read_parquet(path: str | Path, word: str, tag: str, *, may_lack_tags: bool) -> Read:
    """Returns the sentences of a Parquet file. Raises UserError, with the row, for what is not a text for each word.

    Tags may be the numbers of classes whose names Hugging Face's datasets has written into the file.

    word, tag: keys of the lists; "" to find them
    may_lack_tags: whether a file without any other list than that of words is read
    """
    schema = typed_rows.schema(str(path))
    table = typed_rows.parquet(str(path), tuple(schema.names))
    names = typed_rows.list_class_names(schema.metadata or {})
    return _read(path, list(zip(table.numbers, table.rows, strict=True)), word, tag, names, may_lack_tags=may_lack_tags)


def _read(
    path: str | Path,
    records: list[tuple[int, dict[str, Any]]],
    word: str,
    tag: str,
    names: Mapping[str, list[str]],
    *,
    may_lack_tags: bool,
) -> Read:
    if not records:
        raise command.UserError(f"{path} has no sentences; fetch or make it again")
    first = records[0][1]
    word = word or next((key for key in WORD_KEYS if key in first), WORD_KEYS[0])
    lists = [key for key, value in first.items() if isinstance(value, list) and key != word]
    tag = tag or next((key for key in TAG_KEYS if key in first), lists[0] if len(lists) == 1 else "")
    if not tag and (lists or not may_lack_tags):
        raise command.UserError(
            f"{path} does not tell which of {', '.join(map(repr, first))} has the tags; give "
            "--config.data.tag_column=KEY"
        )
    words, tags, rows = [], [], []
    for row, record in records:
        sentence = _texts(record, word, f"{path} row {row}", [])
        labels = _texts(record, tag, f"{path} row {row}", names.get(tag, [])) if tag else []
        if tag and len(labels) != len(sentence):
            raise command.UserError(
                f"{path} row {row} has {len(sentence)} words but {len(labels)} tags; give each word one"
            )
        if sentence and sentence[0] != conll.DOCUMENT:
            words.append(sentence)
            tags.append(labels)
            rows.append(row)
    note = f"words under {word!r}" + (f", tags under {tag!r}" if tag else "")
    return Read(words, tags if tag else None, rows, len(records) - len(rows), note)


def _records(path: str | Path, content: str) -> list[tuple[int, dict[str, Any]]]:
    """Returns the objects and their numbers."""
    if content.lstrip().startswith("["):
        try:
            rows = list(enumerate(json.loads(content), start=1))
        except (ValueError, RecursionError):
            raise command.UserError(f"{path} is not whole JSON; fetch or make it again") from None
    else:
        rows = [(number, _parse(line)) for number, line in tabular.lines(content) if line.strip()]
    for number, row in rows:
        if not isinstance(row, dict):
            raise command.UserError(
                f"{path} row {number} is not a JSON object; write an object a line, or a list of objects"
            )
    return rows


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _texts(record: dict[str, Any], key: str, where: str, names: list[str]) -> list[str]:
    """Returns the texts of a list; of numbers, the names of these classes."""
    values = record.get(key)
    if values is None and isinstance(record.get("text"), str):
        raise command.UserError(
            f"{where} has text with places of characters, not lists; divide it into words under {key!r} with a tag for "
            "each"
        )
    if not isinstance(values, list):
        raise command.UserError(f"{where} has no list under {key!r}; give one text for each word")
    if names and all(type(value) is int and 0 <= value < len(names) for value in values):
        values = [names[value] for value in values]
    if any(isinstance(value, int) for value in values):
        raise command.UserError(
            f"{where} has numbers under {key!r}; write the names of the classes, which Hugging Face's datasets has as "
            f"features[{key!r}].feature.names"
        )
    if any(not isinstance(value, str) or not value.strip() or set(value) & set("\t\r\n") for value in values):
        raise command.UserError(f"{where} has something else than a word under {key!r}; give one text for each word")
    return [value.encode(errors="surrogatepass").decode(errors="replace") for value in values]
