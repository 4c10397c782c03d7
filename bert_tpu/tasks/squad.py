"""Reads SQuAD 1.1 and 2.0 as a task: find the answer to a question in its context; in 2.0 also whether it has one."""

from collections.abc import Callable, Iterable, Sequence
import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bert_tpu.core import command
from bert_tpu.tasks import metrics, squad_file, squad_metrics, squad_notes, squad_spans, squad_windows
from bert_tpu.tasks.squad_spans import Span
from bert_tpu.tasks.task import Task
from bert_tpu.tokenizer import vocab


class Split(NamedTuple):
    """An encoded split."""

    questions: list[squad_file.Question]
    contexts: list[str]  # of each question
    windows: squad_windows.Windows


class Decoder(NamedTuple):
    """Turns outputs of the model into answers."""

    splits: dict[str, Split]
    n_best: int
    max_answer_length: int
    null_threshold: float

    def spans(self, name: str, outputs: np.ndarray) -> list[list[Span]]:
        """Returns the likeliest answers to each question of a split, the likeliest first."""
        split = self.splits[name]
        return squad_spans.best_spans(
            split.windows, split.contexts, outputs, n_best=self.n_best, max_answer_length=self.max_answer_length
        )

    def null_spans(self, name: str, outputs: np.ndarray) -> list[Span]:
        """Returns the null answer to each question of a split."""
        return squad_spans.null_spans(self.splits[name].windows, outputs)


def load(
    *,
    train: str,
    validation: str,
    version: str,
    max_length: int,
    doc_stride: int,
    max_query_length: int,
    max_answer_length: int,
    n_best: int,
    null_threshold: float,
    vocabulary: vocab.Vocab,
    misplaced: str = "refuse",
) -> Task:
    """Returns the task of two files in SQuAD's format.

    Raises UserError for numbers out of bounds and for files that `squad_file.read` or `squad_windows.make` refuses.

    train, validation: paths
    version: "1.1", in which every question has an answer, or "2.0"
    max_length: tokens of a window
    doc_stride: tokens from the start of a window to the start of the next one over the same context
    max_query_length: tokens of a question; the rest is cut off
    max_answer_length: tokens
    n_best: number of answers that are compared
    null_threshold: logits; 2.0 gives the null answer if its score exceeds the best answer's by more than this. The
        metric best_f1_thresh is a value for it, which should come from other questions than are scored.
    misplaced: "refuse" files with answers that are not at their answer_start, or "allow" them: train goes without such
        questions, and validation compares only texts
    """
    _check(
        version, null_threshold, max_length=max_length, doc_stride=doc_stride, max_query_length=max_query_length,
        max_answer_length=max_answer_length, n_best=n_best,
    )  # fmt: skip
    sizes = dict(max_length=max_length, doc_stride=doc_stride, max_query_length=max_query_length)
    splits, notes = {}, list[str]()
    for name, path in (("train", train), ("validation", validation)):
        if not path:
            raise command.UserError(f"no {name} file: give --config.data.{name}=FILE, SQuAD's JSON")
        file = squad_file.read(path, version, _treatment(name, misplaced))
        splits[name] = _encode(file.paragraphs, path, vocabulary, sizes)
        if name == "train" and not splits[name].windows.rows.labels.any():
            raise command.UserError(f"{path} has no answer in any window, and so nothing to learn; give another file")
        notes += squad_notes.notes(
            name, file, splits[name].windows, max_query_length=max_query_length, max_answer_length=max_answer_length
        )  # fmt: skip
    decoder = Decoder(splits, n_best, max_answer_length, null_threshold)
    score, write, values = (
        (_score_v1_1, _write_v1_1, _values_v1_1) if version == "1.1" else (_score_v2_0, _write_v2_0, _values_v2_0)
    )
    return Task(
        name=f"squad-{version}",
        head="span",
        labels=("start", "end"),
        splits={name: split.windows.rows for name, split in splits.items()},
        eval_splits=("validation",),
        score=functools.partial(score, decoder),
        write=functools.partial(write, decoder),
        bootstrap=functools.partial(_bootstrap, functools.partial(values, decoder)),
        notes=tuple(notes),
    )


def _treatment(split: str, misplaced: str) -> str:
    """Returns the argument `misplaced` of `squad_file.read`."""
    if misplaced not in ("refuse", "allow"):
        raise command.UserError(f"misplaced {misplaced!r}: give --config.data.misplaced=refuse or allow")
    return misplaced if misplaced == "refuse" else "drop" if split == "train" else "keep"


def _encode(paragraphs: list[squad_file.Paragraph], path: str, vocabulary: vocab.Vocab, sizes: dict[str, int]) -> Split:
    windows = squad_windows.make(paragraphs, path=path, vocabulary=vocabulary, **sizes)
    questions = [question for paragraph in paragraphs for question in paragraph.questions]
    contexts = [paragraph.context for paragraph in paragraphs for _ in paragraph.questions]
    return Split(questions, contexts, windows)


def _check(version: str, null_threshold: float, max_length: int, **counts: int) -> None:
    if version not in squad_file.VERSIONS:
        raise command.UserError(
            f"version {version!r} is not one of {', '.join(squad_file.VERSIONS)}: give --config.data.version=2.0"
        )
    if version == "1.1" and null_threshold:
        raise command.UserError(
            "null_threshold: every question of SQuAD 1.1 has an answer; leave the key out, or give "
            "--config.data.version=2.0"
        )
    shortest, longest = squad_windows.SHORTEST, squad_windows.LONGEST
    if not shortest <= max_length <= longest:
        raise command.UserError(f"max_length {max_length}: give {shortest} to {longest} tokens")
    for name, count in counts.items():
        if count < 1:
            raise command.UserError(f"{name} {count}: give 1 or more")


def _score_v1_1(decoder: Decoder, split: str, outputs: np.ndarray) -> dict[str, float]:
    return squad_metrics.evaluate_v1_1(*_answers_v1_1(decoder, split, outputs))


def _values_v1_1(decoder: Decoder, split: str, outputs: np.ndarray) -> dict[str, list[float]]:
    return squad_metrics.values_v1_1(*_answers_v1_1(decoder, split, outputs))


def _score_v2_0(decoder: Decoder, split: str, outputs: np.ndarray) -> dict[str, float]:
    return squad_metrics.evaluate_v2_0(*_answers_v2_0(decoder, split, outputs), decoder.null_threshold)


def _values_v2_0(decoder: Decoder, split: str, outputs: np.ndarray) -> dict[str, list[float]]:
    return squad_metrics.values_v2_0(*_answers_v2_0(decoder, split, outputs), decoder.null_threshold)


def _answers_v1_1(decoder: Decoder, split: str, outputs: np.ndarray) -> tuple[list[str], list[list[str]]]:
    """Returns the likeliest text and the gold answers of each question."""
    return _texts(decoder.spans(split, outputs)), _golds(decoder.splits[split].questions)


def _answers_v2_0(decoder: Decoder, split: str, outputs: np.ndarray) -> tuple[list[str], list[list[str]], list[float]]:
    """Returns the likeliest text, the gold answers and the null odds of each question."""
    spans = decoder.spans(split, outputs)
    odds = _null_odds(decoder.null_spans(split, outputs), spans)
    return _texts(spans), _golds(decoder.splits[split].questions), odds


def _texts(spans: list[list[Span]]) -> list[str]:
    return [likeliest[0].text for likeliest in spans]


def _golds(questions: list[squad_file.Question]) -> list[list[str]]:
    return [[answer.text for answer in question.answers] for question in questions]


def _bootstrap(
    values: Callable[[str, np.ndarray], dict[str, list[float]]], split: str, outputs: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns draws, per cent, of the metrics that are means over all questions: `values` has one of each question."""
    models = [values(split, model) for model in outputs]
    return {name: metrics.bootstrap_means(100.0 * np.array([model[name] for model in models])) for name in models[0]}


def _write_v1_1(decoder: Decoder, split: str, outputs: np.ndarray, folder: Path) -> None:
    """Writes predictions.json, id -> text, and nbest_predictions.json, id -> texts with their probabilities."""
    questions, spans = decoder.splits[split].questions, decoder.spans(split, outputs)
    _dump(folder / "predictions.json", questions, _texts(spans))
    _dump(folder / "nbest_predictions.json", questions, map(_records, spans))


def _write_v2_0(decoder: Decoder, split: str, outputs: np.ndarray, folder: Path) -> None:
    """Writes null_odds.json, id -> null odds, and the files of version 1.1, in which "" may be an answer."""
    questions, spans = decoder.splits[split].questions, decoder.spans(split, outputs)
    nulls = decoder.null_spans(split, outputs)
    odds = _null_odds(nulls, spans)
    texts = [
        "" if odd > decoder.null_threshold else likeliest[0].text for odd, likeliest in zip(odds, spans, strict=True)
    ]
    ranked = (sorted([*likeliest, null], key=lambda s: -s.score) for likeliest, null in zip(spans, nulls, strict=True))
    _dump(folder / "predictions.json", questions, texts)
    _dump(folder / "nbest_predictions.json", questions, map(_records, ranked))
    _dump(folder / "null_odds.json", questions, odds)


def _null_odds(nulls: list[Span], spans: list[list[Span]]) -> list[float]:
    """Returns the score of the null answer minus that of the likeliest other answer."""
    return [null.score - likeliest[0].score for null, likeliest in zip(nulls, spans, strict=True)]


def _records(spans: list[Span]) -> list[dict[str, Any]]:
    """Returns spans in the format of nbest_predictions.json."""
    return [
        {"text": span.text, "probability": probability, "start_logit": span.start_logit, "end_logit": span.end_logit}
        for span, probability in zip(spans, squad_spans.probabilities(spans), strict=True)
    ]


def _dump(path: Path, questions: Sequence[squad_file.Question], values: Iterable[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    by_id = {question.id: value for question, value in zip(questions, values, strict=True)}
    path.write_text(json.dumps(by_id, indent=1) + "\n")
