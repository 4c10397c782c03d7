"""SQuAD, versions 1.1 and 2.0, as a task: which part of a context answers a question, and in 2.0 whether one does."""

import functools
import json
from typing import NamedTuple

import numpy as np

from bert_tpu.core import command
from bert_tpu.tasks import metrics, squad_file, squad_metrics, squad_spans, squad_windows, task
from bert_tpu.tokenizer import vocab

SHORTEST, LONGEST = 8, 512  # of max_length; BERT has 512 positions


class _Split(NamedTuple):
    questions: list[squad_file.Question]
    contexts: list[str]  # of each question
    windows: squad_windows.Windows


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
) -> task.Task:
    """The task of two files in SQuAD's form.

    version: "1.1", where every question has an answer, or "2.0". max_length: tokens of a window. doc_stride: tokens
    between the starts of two windows over a context. max_query_length: pieces of a question, the rest is cut off.
    max_answer_length: tokens. n_best: answers that are weighed against each other. null_threshold: 2.0 answers
    nothing where that is likelier than the best answer by more than this, in logits; the score best_f1_thresh is a
    value for it, to be chosen on other questions than are judged.

    Raises UserError for numbers out of bounds and for what `squad_file.read` and `windows.make` refuse.
    """
    _check(
        version, max_length=max_length, doc_stride=doc_stride, max_query_length=max_query_length,
        max_answer_length=max_answer_length, n_best=n_best,
    )  # fmt: skip
    splits = {}
    for name, path in (("train", train), ("validation", validation)):
        if not path:
            raise command.UserError(f"no {name} file: give --config.data.{name}=FILE, SQuAD's JSON")
        paragraphs = squad_file.read(path, version)
        made = squad_windows.make(
            paragraphs, path=path, vocabulary=vocabulary,
            max_length=max_length, doc_stride=doc_stride, max_query_length=max_query_length,
        )  # fmt: skip
        questions = [(question, paragraph.context) for paragraph in paragraphs for question in paragraph.questions]
        splits[name] = _Split(*map(list, zip(*questions, strict=True)), made)
    best = functools.partial(squad_spans.best, n_best=n_best, max_answer_length=max_answer_length)
    if version == "1.1":
        score, write, values = (functools.partial(do, splits, best) for do in (_score_1, _write_1, _values_1))
    else:
        score, write, values = (
            functools.partial(do, splits, best, null_threshold) for do in (_score_2, _write_2, _values_2)
        )
    return task.Task(
        name=f"squad-{version}",
        head="span",
        labels=("start", "end"),
        splits={name: split.windows.rows for name, split in splits.items()},
        judged=("validation",),
        score=score,
        write=write,
        draws=functools.partial(_draws, values),
    )


def _check(version, max_length, **counts):
    if version not in squad_file.VERSIONS:
        raise command.UserError(f"version {version!r} is none of {', '.join(squad_file.VERSIONS)}")
    if not SHORTEST <= max_length <= LONGEST:
        raise command.UserError(f"max_length {max_length}: give {SHORTEST} to {LONGEST} tokens")
    for name, count in counts.items():
        if count < 1:
            raise command.UserError(f"{name} {count}: give 1 or more")


def _score_1(splits, best, split, outputs):
    return squad_metrics.evaluate_v1_1(*_answers_1(splits, best, split, outputs))


def _values_1(splits, best, split, outputs):
    return squad_metrics.values_v1_1(*_answers_1(splits, best, split, outputs))


def _score_2(splits, best, null_threshold, split, outputs):
    return squad_metrics.evaluate_v2_0(*_answers_2(splits, best, split, outputs), null_threshold)


def _values_2(splits, best, null_threshold, split, outputs):
    return squad_metrics.values_v2_0(*_answers_2(splits, best, split, outputs), null_threshold)


def _answers_1(splits, best, split, outputs):
    """Of each question its likeliest text, and the answers that are right."""
    questions, contexts, made = splits[split]
    return _texts(best(made, contexts, outputs)), _golds(questions)


def _answers_2(splits, best, split, outputs):
    """The same, and the odds that there is none."""
    questions, contexts, made = splits[split]
    found = best(made, contexts, outputs)
    return _texts(found), _golds(questions), _odds(squad_spans.none(made, outputs), found)


def _texts(found):
    return [likely[0].text for likely in found]


def _golds(questions):
    return [[answer.text for answer in question.answers] for question in questions]


def _draws(values, split, outputs):
    """Of the scores that are means over all questions, per cent."""
    each = [values(split, said) for said in outputs]
    return {name: metrics.draws_of_means(100.0 * np.array([of[name] for of in each])) for name in each[0]}


def _write_1(splits, best, split, outputs, folder):
    """Leaves predictions.json, id -> text, and nbest_predictions.json, id -> texts with their probabilities."""
    questions, contexts, made = splits[split]
    found = best(made, contexts, outputs)
    _dump(folder / "predictions.json", questions, _texts(found))
    _dump(folder / "nbest_predictions.json", questions, map(_records, found))


def _write_2(splits, best, null_threshold, split, outputs, folder):
    """As _write_1, "" being a text like others, and null_odds.json, id -> odds that there is no answer."""
    questions, contexts, made = splits[split]
    found, empty = best(made, contexts, outputs), squad_spans.none(made, outputs)
    odds = _odds(empty, found)
    texts = ["" if odd > null_threshold else likely[0].text for odd, likely in zip(odds, found, strict=True)]
    weighed = (sorted([*likely, none], key=lambda s: -s.score) for likely, none in zip(found, empty, strict=True))
    _dump(folder / "predictions.json", questions, texts)
    _dump(folder / "nbest_predictions.json", questions, map(_records, weighed))
    _dump(folder / "null_odds.json", questions, odds)


def _odds(empty, found):
    """How far the score of no answer lies above that of the likeliest one."""
    return [none.score - likely[0].score for none, likely in zip(empty, found, strict=True)]


def _records(likely):
    """Spans as nbest_predictions.json has them."""
    return [
        {"text": span.text, "probability": probability, "start_logit": span.start_logit, "end_logit": span.end_logit}
        for span, probability in zip(likely, squad_spans.probabilities(likely), strict=True)
    ]


def _dump(path, questions, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    of_id = {question.id: value for question, value in zip(questions, values, strict=True)}
    path.write_text(json.dumps(of_id, indent=1) + "\n")
