"""Reads the questions of files in SQuAD's format, or in another that has the same: paragraphs, or a row a question."""

from collections.abc import Iterable, Iterator
import json
from pathlib import Path
import re
from typing import Any, NamedTuple

from bert_tpu.core import command
from bert_tpu.readers import tabular, typed_rows

SHOWN_KEYS = 8  # keys of a record in an error message
KINDS = {str: "text", list: "list", int: "whole number"}
ROW = ("id", "context", "question", "answers", "is_impossible")  # columns of a Parquet file


class Group(NamedTuple):
    """A context and the records of its questions, each with its place: the beginning of an error message."""

    context: str
    questions: list[tuple[str, Any]]


def read(path: str | Path) -> Iterator[Group]:
    """Yields the contexts of a file. Raises UserError for a file that is not whole, or has another form.

    A file is SQuAD's JSON (articles with paragraphs), a list of paragraphs, or rows with `context` and `question` as
    Hugging Face's datasets has them: JSON lines, a list, or Parquet. Neighbouring rows of one context make one Group.
    """
    last: Group | None = None
    for where, item in _items(path):
        if isinstance(item, dict) and "question" in item and not {"qas", "paragraphs"} & set(item):
            context = field(item, "context", str, where)
            if last and last.context == context:
                last.questions.append((where, item))
                continue
            if last:
                yield last
            last = Group(context, [(where, item)])
            continue
        for place, paragraph in _paragraphs(where, item):
            records = enumerate(field(paragraph, "qas", list, place))
            questions = [(f"{place}.qas[{i}]", record) for i, record in records]
            yield Group(field(paragraph, "context", str, place), questions)
    if last:
        yield last


def field(record: Any, key: str, kind: type, where: str) -> Any:
    """Returns record[key]. Raises UserError, with `where`, unless it is of the type `kind`; text must fit UTF-8."""
    value = record.get(key) if isinstance(record, dict) else None
    if type(value) is not kind:  # bool is an int, but True is not an answer_start
        wrong = "" if value is None or isinstance(value, list | dict) else f" but {value!r}"
        if isinstance(record, dict) and key not in record:
            wrong = f" but {', '.join(map(repr, list(record)[:SHOWN_KEYS]))}"
        raise command.UserError(f"{where} has no {KINDS[kind]} under {key!r}{wrong}: give a file in SQuAD's format")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise command.UserError(f"{where}: {key!r} has half a surrogate pair, which is not text; fix it") from None
    return value


def _paragraphs(where: str, item: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(item, dict) and "qas" in item:
        return [(where, item)]
    paragraphs = enumerate(field(item, "paragraphs", list, where))
    return [(f"{where}.paragraphs[{i}]", paragraph) for i, paragraph in paragraphs]


def _items(path: str | Path) -> Iterator[tuple[str, Any]]:
    """Yields articles, paragraphs or rows with their places."""
    if typed_rows.is_parquet(path):
        table = typed_rows.parquet(str(path), ROW)
        yield from ((f"{path}: row {number}", row) for number, row in zip(table.numbers, table.rows, strict=True))
        return
    content = tabular.text(path)
    if not content.strip():
        raise command.UserError(f"{path} is empty; fetch it again")
    try:
        root = json.loads(content)
    except json.JSONDecodeError as error:
        yield from _lines(path, content, error)
        return
    except (ValueError, RecursionError):
        raise command.UserError(f"{path} is not JSON; fetch SQuAD's .json again") from None
    if isinstance(root, dict) and isinstance(root.get("question"), list | dict):
        raise command.UserError(f"{path} {typed_rows.NOT_ROWS}")
    if isinstance(root, dict) and "question" in root:
        yield f"{path}: line 1", root
        return
    is_list = isinstance(root, list)
    if isinstance(root, dict) and "data" not in root:
        lists = [key for key, value in root.items() if isinstance(value, list)]
        if lists:
            raise command.UserError(f"{path} has no list under 'data' but under {lists[0]!r}; write that list alone")
    items = root if is_list else field(root, "data", list, f"{path}: the file")
    yield from ((f"{path}: {'' if is_list else 'data'}[{i}]", item) for i, item in enumerate(items))


def _lines(path: str | Path, content: str, error: json.JSONDecodeError) -> Iterator[tuple[str, Any]]:
    """Yields the objects of JSON lines; `error` says why the file is not JSON as a whole."""
    is_lines = error.msg == "Extra data"
    first = content.lstrip().partition("\n")[0]
    if not is_lines and first[:1] not in ("{", "[") and {"context", "question"} <= set(re.findall(r"\w+", first)):
        raise command.UserError(
            f"{path} is a table of text, where answers are not as in JSON; write the rows by to_json or to_parquet"
        )
    for number, line in tabular.lines(content) if is_lines else ():
        if line.strip():
            try:
                yield f"{path}: line {number}", json.loads(line)
            except (ValueError, RecursionError):
                raise command.UserError(f"{path} line {number} is not JSON; fix it or fetch it again") from None
    if not is_lines:
        if error.pos >= len(content.rstrip()) or error.msg.startswith("Unterminated"):
            raise command.UserError(f"{path} ends in line {error.lineno}, before its JSON does; fetch it again")
        raise command.UserError(f"{path} line {error.lineno} is not JSON ({error.msg}); fix it or fetch it again")
