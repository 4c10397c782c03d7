"""Reads and checks the questions of SQuAD, versions 1.1 and 2.0, with the places of their answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
import unicodedata

from bert_tpu.core import command
from bert_tpu.tasks import squad_records

VERSIONS = ("1.1", "2.0")
NOWHERE = -1
SHOWN = 80  # characters of a text in an error


class Answer(NamedTuple):
    """An answer: `text` equals context[start : start + len(text)]; start is NOWHERE if the file has another place."""

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


class Fault(NamedTuple):
    """An answer that is not at its place."""

    sentence: str
    context: str
    text: str
    start: int

    def is_at(self, shift: int) -> bool:
        """Whether the answer is `shift` characters after its place."""
        return self.start + shift >= 0 and self.context.startswith(self.text, self.start + shift)


class File(NamedTuple):
    """The questions of a file."""

    paragraphs: list[Paragraph]
    placeholders: int  # answers without text, which are none
    misplaced: int  # answers that are not at their places


def read(path: str | Path, version: str, misplaced: str = "refuse") -> File:
    """Returns the paragraphs of a file in the format of https://rajpurkar.github.io/SQuAD-explorer, or `squad_records`.

    An answer without text does not count, wherever it is: converters write it for unanswerable questions. The official
    script of 2.0 drops its text too, but takes its question for one with an answer in the scores of `HasAns` and
    `NoAns`. That of 1.1 keeps it as an answer that an empty prediction equals.

    Raises UserError if two questions have the same id, if an answer is not at its place in the context, or if the
    version is "1.1" and a question has no answer.

    misplaced: "refuse"; or for answers that are not at their places "keep", with the place NOWHERE, or "drop", and a
        question if none of its answers is left
    """
    paragraphs, placeholders, faults, total = [], 0, list[Fault](), 0
    for group in squad_records.read(path):
        questions = []
        for where, record in group.questions:
            question, empty = _question(record, group.context, path, where, faults)
            placeholders += empty
            total += len(question.answers)
            placed = tuple(answer for answer in question.answers if answer.start != NOWHERE)
            if misplaced == "drop":
                questions += [question._replace(answers=placed)] if placed or not question.answers else []
            else:
                questions.append(question)
        paragraphs.append(Paragraph(group.context, tuple(questions)))
    if faults and misplaced == "refuse":
        raise command.UserError(
            f"{faults[0].sentence}; {len(faults):,} of {total:,} answers are not at their places"
            f"{_remedy(faults, total)}"
        )
    paragraphs = [paragraph for paragraph in paragraphs if paragraph.questions]
    questions = [question for paragraph in paragraphs for question in paragraph.questions]
    if not questions:
        advice = " whose answer is at its place; fix answer_start" if faults else "; fetch it again"
        raise command.UserError(f"{path} has no question{advice}")
    _check_ids(questions, path)
    if version == "1.1":
        _check_answered(questions, path)
    return File(paragraphs, placeholders, len(faults))


def _remedy(faults: list[Fault], total: int) -> str:
    """Returns what to do about answers that are not at their places: the end of a sentence."""
    for shift in (-1, 1):
        if len(faults) > 1 and all(fault.is_at(shift) for fault in faults):
            return f", and each is found at answer_start {'+' if shift > 0 else '-'} 1"
    few = 2 * len(faults) <= total
    return ", and --config.data.misplaced=allow trains without them" if few else ", too many to train without them"


def _question(record: Any, context: str, path: str | Path, where: str, faults: list[Fault]) -> tuple[Question, int]:
    """Returns a question, and the number of its answers that have no text. Adds sentences to `faults`."""
    if isinstance(record, dict) and type(record.get("id")) is int:
        record = record | {"id": str(record["id"])}
    name = squad_records.field(record, "id", str, where)
    where = f"{path}: question {name}"
    text = squad_records.field(record, "question", str, where)
    known = list(_answers(record, where))
    answers = tuple(_answer(answer, context, where, faults) for answer in known if not _is_placeholder(answer))
    impossible = not answers
    if record.get("is_impossible") not in (None, impossible):
        raise command.UserError(
            f"{where} has {len(answers)} answers with text and is_impossible={record['is_impossible']!r}: fix one of "
            "them"
        )
    return Question(name, text, answers), len(known) - len(answers)


def _answers(record: Any, where: str) -> Iterator[Any]:
    """Yields the answers of a question, as objects. Hugging Face's datasets have an object of lists instead."""
    answers = record.get("answers")
    if answers is None and record.get("is_impossible") is True:
        return
    if isinstance(answers, dict):
        texts, starts = (squad_records.field(answers, key, list, where) for key in ("text", "answer_start"))
        if len(texts) != len(starts):
            raise command.UserError(f"{where} has {len(texts)} answers but {len(starts)} of their starts; fix it")
        yield from ({"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True))
        return
    yield from squad_records.field(record, "answers", list, where)


def _is_placeholder(answer: Any) -> bool:
    text = answer.get("text", 0) if isinstance(answer, dict) else 0
    return text is None or text != text or (isinstance(text, str) and not text.strip())  # NaN differs from itself


def _answer(record: Any, context: str, where: str, faults: list[Fault]) -> Answer:
    text = squad_records.field(record, "text", str, where)
    start = squad_records.field(record, "answer_start", int, where)
    if start >= 0 and context.startswith(text, start):
        return Answer(text, start)
    at = max(start, 0)
    places = [place for place in (context.find(text, at), context.rfind(text, 0, at + len(text))) if place >= 0]
    nearest = min(places, key=lambda place: abs(place - at), default=None)
    if nearest is None:
        advice = f"or the text{_difference(context, text)}"
    else:
        advice = f"which is {nearest} at the nearest{_unit(context, nearest, start)}"
    sentence = (
        f"{where} has the answer {text[:SHOWN]!r} at character {start}, but there its context has "
        f"{context[at : at + min(len(text), SHOWN)]!r}: fix answer_start, {advice}"
    )
    faults.append(Fault(sentence, context, text, start))
    return Answer(text, NOWHERE)


def _difference(context: str, text: str) -> str:
    """Returns a remark about a text that the context has in other letters."""
    if unicodedata.normalize("NFC", text) in unicodedata.normalize("NFC", context):
        return ", which the context has in another Unicode form"
    return ", which the context has in other case" if text.casefold() in context.casefold() else ""


def _unit(context: str, place: int, start: int) -> str:
    """Returns a remark if `start` is a place counted in other units than characters."""
    before = context[:place]
    units = {"bytes of UTF-8": len(before.encode()), "units of UTF-16": len(before.encode("utf-16-le")) // 2}
    unit = next((unit for unit, count in units.items() if count == start != place), "")
    return f" ({start} counts {unit}, not characters)" if unit else ""


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
                f"{path}: question {question.id} has no answer, which version 1.1 does not allow; set "
                "--config.data.version=2.0"
            )
