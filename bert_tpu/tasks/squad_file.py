"""SQuAD's JSON, versions 1.1 and 2.0, read and checked: paragraphs, their questions, and where the answers stand."""

import json
from pathlib import Path
from typing import NamedTuple

from etils import epath

from bert_tpu.core import command

VERSIONS = ("1.1", "2.0")
KINDS = {str: "text", list: "list", int: "whole number"}


class Answer(NamedTuple):
    """context[start : start + len(text)] is the text."""

    text: str
    start: int


class Question(NamedTuple):
    """A question with the answers its annotators gave; none where the context does not answer it."""

    id: str
    text: str
    answers: tuple[Answer, ...]


class Paragraph(NamedTuple):
    """A context and what is asked about it."""

    context: str
    questions: tuple[Question, ...]


def read(path: str | Path, version: str) -> list[Paragraph]:
    """The paragraphs of a file of the form that https://rajpurkar.github.io/SQuAD-explorer publishes.

    No two questions share an id, every answer stands at its place, and in version 1.1 every question has one.
    Raises UserError for a file of which this is not so.
    """
    content = _parse(epath.Path(path), path)
    paragraphs = []
    for i, article in enumerate(_field(content, "data", list, f"{path}: the file")):
        where = f"{path}: data[{i}]"
        for j, paragraph in enumerate(_field(article, "paragraphs", list, where)):
            paragraphs.append(_paragraph(paragraph, path, f"{where}.paragraphs[{j}]"))
    questions = [question for paragraph in paragraphs for question in paragraph.questions]
    if not questions:
        raise command.UserError(f"{path} holds no question; fetch it again")
    _check_ids(questions, path)
    if version == "1.1":
        _check_answered(questions, path)
    return paragraphs


def _parse(file, path):
    raw = file.read_bytes()
    if not raw.strip():
        raise command.UserError(f"{path} is empty; fetch it again")
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise command.UserError(f"{path} is not JSON; fetch SQuAD's .json again") from None


def _paragraph(record, path, where):
    context = _field(record, "context", str, where)
    asked = enumerate(_field(record, "qas", list, where))
    return Paragraph(context, tuple(_question(qa, context, path, f"{where}.qas[{i}]") for i, qa in asked))


def _question(record, context, path, where):
    name = _field(record, "id", str, where)
    where = f"{path}: question {name}"
    text = _field(record, "question", str, where)
    answers = tuple(_answer(answer, context, where) for answer in _field(record, "answers", list, where))
    impossible = not answers
    if record.get("is_impossible", impossible) is not impossible:
        raise command.UserError(
            f"{where} has {len(answers)} answers and is_impossible={record['is_impossible']!r}: mend one"
        )
    return Question(name, text, answers)


def _answer(record, context, where):
    text, start = _field(record, "text", str, where), _field(record, "answer_start", int, where)
    if start < 0 or not text or not context.startswith(text, start):
        raise command.UserError(
            f"{where} has the answer {text[:80]!r} at character {start}, but there its context has "
            f"{context[max(start, 0) :][: len(text)][:80]!r}: mend answer_start"
        )
    return Answer(text, start)


def _field(record, key, kind, where):
    """record[key], which is of this kind; text is such that UTF-8 can spell."""
    value = record.get(key) if isinstance(record, dict) else None
    if type(value) is not kind:  # True is no answer_start
        raise command.UserError(f"{where} has no {KINDS[kind]} under {key!r}: give a file of SQuAD's form")
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise command.UserError(f"{where}: {key!r} has half a surrogate pair, which is no text; mend it") from None
    return value


def _check_ids(questions, path):
    seen = set()
    for question in questions:
        if question.id in seen:
            raise command.UserError(f"{path}: question {question.id} comes twice; give every question its own id")
        seen.add(question.id)


def _check_answered(questions, path):
    for question in questions:
        if not question.answers:
            raise command.UserError(
                f"{path}: question {question.id} has no answer, which version 1.1 does not know; set version to 2.0"
            )
