"""Reads and checks SQuAD's JSON, versions 1.1 and 2.0: paragraphs, questions, and the places of answers."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath

from bert_tpu.core import command

VERSIONS = ("1.1", "2.0")
KINDS = {str: "text", list: "list", int: "whole number"}


class Answer(NamedTuple):
    """An answer: `text` equals context[start : start + len(text)]."""

    text: str
    start: int


class Question(NamedTuple):
    """A question with its annotators' answers; there are none if the context does not answer it."""

    id: str
    text: str
    answers: tuple[Answer, ...]


class Paragraph(NamedTuple):
    """A context and the questions about it."""

    context: str
    questions: tuple[Question, ...]


def read(path: str | Path, version: str) -> list[Paragraph]:
    """Returns the paragraphs of a file in the format of https://rajpurkar.github.io/SQuAD-explorer.

    Raises UserError if two questions have the same id, if an answer is not at its place in the context, or if the
    version is "1.1" and a question has no answer.
    """
    content = _parse(path)
    paragraphs = []
    for i, article in enumerate(_field(content, "data", list, f"{path}: the file")):
        where = f"{path}: data[{i}]"
        for j, paragraph in enumerate(_field(article, "paragraphs", list, where)):
            paragraphs.append(_paragraph(paragraph, path, f"{where}.paragraphs[{j}]"))
    questions = [question for paragraph in paragraphs for question in paragraph.questions]
    if not questions:
        raise command.UserError(f"{path} has no question; fetch it again")
    _check_ids(questions, path)
    if version == "1.1":
        _check_answered(questions, path)
    return paragraphs


def _parse(path: str | Path) -> Any:
    raw = epath.Path(path).read_bytes()
    if not raw.strip():
        raise command.UserError(f"{path} is empty; fetch it again")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise command.UserError(f"{path} is not JSON; fetch SQuAD's .json again") from None


def _paragraph(record: Any, path: str | Path, where: str) -> Paragraph:
    context = _field(record, "context", str, where)
    records = enumerate(_field(record, "qas", list, where))
    return Paragraph(context, tuple(_question(qa, context, path, f"{where}.qas[{i}]") for i, qa in records))


def _question(record: Any, context: str, path: str | Path, where: str) -> Question:
    name = _field(record, "id", str, where)
    where = f"{path}: question {name}"
    text = _field(record, "question", str, where)
    answers = tuple(_answer(answer, context, where) for answer in _field(record, "answers", list, where))
    impossible = not answers
    if record.get("is_impossible", impossible) is not impossible:
        raise command.UserError(
            f"{where} has {len(answers)} answers and is_impossible={record['is_impossible']!r}: fix one of them"
        )
    return Question(name, text, answers)


def _answer(record: Any, context: str, where: str) -> Answer:
    text, start = _field(record, "text", str, where), _field(record, "answer_start", int, where)
    if start < 0 or not text or not context.startswith(text, start):
        raise command.UserError(
            f"{where} has the answer {text[:80]!r} at character {start}, but there its context has "
            f"{context[max(start, 0) :][: len(text)][:80]!r}: fix answer_start"
        )
    return Answer(text, start)


def _field(record: Any, key: str, kind: type, where: str) -> Any:
    """Returns record[key]. Raises UserError, with `where`, unless it is of the type `kind`; text must fit UTF-8."""
    value = record.get(key) if isinstance(record, dict) else None
    if type(value) is not kind:  # bool is an int, but True is not an answer_start
        raise command.UserError(f"{where} has no {KINDS[kind]} under {key!r}: give a file in SQuAD's format")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise command.UserError(f"{where}: {key!r} has half a surrogate pair, which is not text; fix it") from None
    return value


def _check_ids(questions: list[Question], path: str | Path) -> None:
    seen = set()
    for question in questions:
        if question.id in seen:
            raise command.UserError(f"{path}: question {question.id} occurs twice; give every question its own id")
        seen.add(question.id)


def _check_answered(questions: list[Question], path: str | Path) -> None:
    for question in questions:
        if not question.answers:
            raise command.UserError(
                f"{path}: question {question.id} has no answer, which version 1.1 does not allow; set version to 2.0"
            )
