"""Sentences about a split of SQuAD, so that a reader sees at a glance what was read, and what is lost."""

from collections.abc import Iterator

import numpy as np

from bert_tpu.core import numerals
from bert_tpu.tasks import squad_file, squad_metrics, squad_windows, text_notes

SOME = 0.01  # share of questions up to which a note is no warning


def notes(
    split: str,
    file: squad_file.File,
    windows: squad_windows.Windows,
    *,
    max_query_length: int,
    max_answer_length: int,
) -> Iterator[str]:
    """Yields an example, the numbers of questions and windows, and what no window or no prediction can have.

    file, windows: of the split
    max_query_length, max_answer_length: as in `squad.load`
    """
    questions = [question for paragraph in file.paragraphs for question in paragraph.questions]
    first = next((question for question in questions if question.answers), questions[0])
    answer = repr(first.answers[0].text[: squad_file.SHOWN]) if first.answers else "no answer"
    asked = first.text if len(first.text) <= squad_file.SHOWN else f"{first.text[: squad_file.SHOWN]}..."
    yield f"{split}: for example {asked!r}: {answer}"
    answered = np.array([bool(question.answers) for question in questions])
    placed = np.array([any(start != squad_file.NOWHERE for _, start in question.answers) for question in questions])
    has_span = windows.rows.labels[:, 1] > 0  # [CLS] is at 0
    yield (
        f"{split}: {numerals.count(len(questions), 'question')}, {np.count_nonzero(~answered):,} of them unanswerable, "
        f"about {numerals.count(len(file.paragraphs), 'context')}; {numerals.count(len(windows.questions), 'window')}, "
        f"{has_span.sum():,} of them with the answer"
    )
    contexts = [paragraph.context for paragraph in file.paragraphs]
    yield from text_notes.notes(split, "context", range(1, len(contexts) + 1), contexts)
    yield from text_notes.notes(split, "question", range(1, len(questions) + 1), [each.text for each in questions])
    yield from _longer(split, file, windows, np.flatnonzero(has_span))
    if file.placeholders:
        yield f"{split}: {numerals.count(file.placeholders, 'answer')} without text left out"
    if file.misplaced:
        rest = "their questions are left out" if split == "train" else "scores compare their texts alone"
        fault = numerals.inflect(file.misplaced, "[answer is not at its|answers are not at their] answer_start")
        yield f"{split}: {file.misplaced:,} {fault}; {rest}"
    if empty := sum(not question.text.strip() for question in questions):
        yield f"{split}: {numerals.count(empty, 'question')} without text"
    found = np.zeros(len(questions), bool)
    found[windows.questions[has_span]] = True
    if lost := int((placed & ~found).sum()):
        yield (
            f"{split}: {numerals.count(lost, 'answer')} in no window as a whole, so that training takes the question "
            "as unanswerable; a higher max_length or a lower doc_stride helps"
        )
    spans = windows.rows.labels[has_span]
    is_long = np.diff(spans, axis=1)[:, 0] >= max_answer_length
    if long := len(set(windows.questions[has_span][is_long].tolist())):
        yield (
            f"{split}: {numerals.count(long, 'answer')} of over {max_answer_length} tokens (max_answer_length), too "
            "many to predict"
        )
    if windows.cut_questions:
        number = numerals.count(windows.cut_questions, "question")
        yield f"{split}: {number} cut to max_query_length {max_query_length} tokens"


def _longer(split: str, file: squad_file.File, windows: squad_windows.Windows, rows: np.ndarray) -> Iterator[str]:
    """Yields a sentence about answers that end within a token, so that no text of whole tokens equals them.

    rows: int64 [N], windows with an answer
    """
    asked = [(paragraph.context, question) for paragraph in file.paragraphs for question in paragraph.questions]
    spans = windows.rows.labels[rows]
    starts, stops = windows.characters(rows, spans[:, 0], spans[:, 1])
    longer: dict[str, str] = {}
    for number, start, stop in zip(windows.questions[rows].tolist(), starts.tolist(), stops.tolist(), strict=True):
        context, question = asked[number]
        answers = [text for text, _ in question.answers]
        text = context[start:stop]
        if text not in answers and not squad_metrics.exact(text, answers):
            longer.setdefault(question.id, f"{answers[0]!r} in {text!r}")
    if longer:
        warning = "warning: " if len(longer) > SOME * len(asked) else ""
        yield (
            f"{warning}{split}: {numerals.count(len(longer), 'answer')} within a token, such as "
            f"{next(iter(longer.values()))}, so that no prediction is right"
        )
