"""Reads a user's own texts or pairs, with a class or a score each, from TSV, CSV, JSON or Parquet."""

import functools
from pathlib import Path
import re

import numpy as np

from bert_tpu.core import command
from bert_tpu.data import token_rows
from bert_tpu.readers import column_names, tabular
from bert_tpu.tasks import metrics, table_labels, text_notes
from bert_tpu.tasks.task import Task
from bert_tpu.tokenizer import vocab

ADDRESS = re.compile(r"\s*(?:\w+://\S+|[^\s/]*/\S*\.\w{2,5})\s*")  # of a page or a file
LONGEST = 300  # characters of an address
LISTED = 10  # names of columns in a note
WRITTEN = 1000  # rows whose predictions are text at a time
SECOND_TEXT = re.compile(  # the name of a column that is probably the second text of a pair
    r"(?i)text[_ ]?pair|(text|sentence|sent|question|query|premise|review)[_ ]?(2|b|two)|hypothesis|passage|context"
)


def load(
    *,
    train: str,
    validation: str,
    test: str,
    text: str,
    text_pair: str,
    label: str,
    head: str,
    max_length: int,
    vocabulary: vocab.Vocab,
) -> Task:
    """Returns the task of a user's files. Raises UserError if they lack a column or have a wrong label.

    train, validation, test: paths, "" for a file that does not exist; a file without labels is only predicted, and
        of these only test may lack the column
    text, text_pair, label: names of columns; text_pair is "" for single texts
    head: "regress", or "classify", whose classes are the labels of train in the order of their characters, or of their
        values if all are numbers
    max_length: tokens of the longest row
    """
    if head not in metrics.TABLE:
        raise command.UserError(
            f"head {head!r} is not one of {', '.join(metrics.TABLE)}; give the one that fits the labels"
        )
    if not train:
        raise command.UserError("a task needs a train file: give --config.data.train=FILE")
    metrics.require()
    texts = (text, text_pair) if text_pair else (text,)
    _check_names((*texts, label))
    paths = {"train": train, "validation": validation, "test": test}
    tables = {
        split: tabular.read(path, (*texts, label), nullable=(label,)).whole() for split, path in paths.items() if path
    }
    columns = {split: _columns(table, text, text_pair, label, split) for split, table in tables.items()}
    labels = table_labels.read(tables, label, head)
    notes = [note for table in tables.values() for note in table.notes] + list(labels.notes)
    for split, sides in columns.items():
        table = tables[split]
        notes += [
            note for side in sides if side for note in text_notes.notes(table.path, table.unit, table.lines, side)
        ]
    notes += [*_unread(tables["train"], (*texts, label)), *_doubts(text, *columns["train"])]
    eval_splits = tuple(split for split in tables if split != "train" and split not in labels.unlabelled)
    if not eval_splits:
        notes.append("no labelled split except train, so nothing is scored")
    splits = {
        split: token_rows.encode(*sides, labels.values[split], max_length=max_length, vocabulary=vocabulary)
        for split, sides in columns.items()
    }
    return Task(
        name="table",
        head=head,
        labels=labels.classes or (label,),
        splits=splits,
        eval_splits=eval_splits,
        score=functools.partial(_score, head, splits),
        write=functools.partial(_write, labels.classes),
        bootstrap=functools.partial(_bootstrap, head, splits),
        notes=tuple(notes),
    )


def _check_names(names: tuple[str, ...]) -> None:
    """Raises UserError if a column is both a text and the label."""
    if len(set(names)) < len(names):
        raise command.UserError(
            f"data.text, data.text_pair and data.label name the columns {', '.join(map(repr, names))}; name different "
            "ones"
        )


def _unread(table: tabular.Columns, wanted: tuple[str, ...]) -> list[str]:
    """Returns a note of the columns that are not read, and a warning if one is probably the second text of pairs."""
    rest = [name for name in table.header if name not in wanted] if table.has_names else []
    notes = [f"columns not read: {', '.join(rest[:LISTED])}{', ...' if len(rest) > LISTED else ''}"] if rest else []
    second = next((name for name in rest if SECOND_TEXT.fullmatch(name)), "")
    if second and len(wanted) == 2:
        notes.append(
            f"warning: train has a column {second!r} and data.text_pair is empty, so that single texts are trained: "
            f"for pairs give --config.data.text_pair={second}"
        )
    return notes


def _doubts(text: str, texts: list[str], pairs: list[str] | None) -> list[str]:
    """Returns warnings about a column that is probably not that of the texts."""
    if texts == pairs and len(texts) > 1:
        return ["warning: all rows of train have the same text twice; are data.text and data.text_pair the columns?"]
    if len(set(texts)) == 1 < len(texts):
        return [f"warning: all rows of train have the same text under {text!r}; is it the column of the texts?"]
    if all(len(each) < LONGEST and ADDRESS.fullmatch(each) for each in texts):
        return [f"warning: all rows of train have an address or a path under {text!r}; is it the column of the texts?"]
    if all(table_labels.NUMBER.fullmatch(each) for each in texts):
        return [f"warning: all rows of train have a number under {text!r}; is it the column of the texts?"]
    return []


def _columns(
    table: tabular.Columns, text: str, text_pair: str, label: str, split: str
) -> tuple[list[str], list[str] | None]:
    """Returns the texts of a split. Raises UserError if a column is not there; only a test split may lack labels."""
    if split != "test" or column_names.near(label, table.header):
        table.column(label, ", or name it in --config.data.label")
    pairs = table.column(text_pair, ", or name it in --config.data.text_pair") if text_pair else None
    return table.column(text, ", or name it in --config.data.text"), pairs


def _score(head: str, splits: dict[str, token_rows.Rows], split: str, outputs: np.ndarray) -> dict[str, float]:
    return metrics.scores(metrics.TABLE[head], splits[split].labels, _predictions(head, outputs))


def _bootstrap(head: str, splits: dict[str, token_rows.Rows], split: str, outputs: np.ndarray) -> dict[str, np.ndarray]:
    labels, predictions = splits[split].labels, _predictions(head, outputs)
    return {name: metrics.bootstrap(metric, labels, predictions) for name, metric in metrics.TABLE[head].items()}


def _predictions(head: str, outputs: np.ndarray) -> np.ndarray:
    return outputs.argmax(-1) if head == "classify" else outputs[..., 0]


def _write(classes: tuple[str, ...], split: str, outputs: np.ndarray, folder: Path) -> None:
    """Writes SPLIT.tsv: index, prediction and, for classes, the probability of each, by softmax in float64."""
    header = ["index", "prediction", *(f"probability of {name}" for name in classes)]
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / f"{split}.tsv", "w", encoding="utf-8") as file:
        file.write("\t".join(header) + "\n")
        for first in range(0, len(outputs), WRITTEN):  # all rows as text would be 34 KB each, of 300 classes
            for index, cells in enumerate(_cells(classes, outputs[first : first + WRITTEN]), first):
                file.write("\t".join([str(index), *cells]) + "\n")


def _cells(classes: tuple[str, ...], outputs: np.ndarray) -> list[list[str]]:
    """Returns the cells of each row. outputs: [rows, classes], or [rows, 1] of scores"""
    if not classes:
        return [[f"{score:.6g}"] for score in outputs[:, 0]]
    powers = np.exp(outputs.astype(np.float64) - outputs.max(1, keepdims=True))
    probabilities = powers / powers.sum(1, keepdims=True)
    return [[classes[row.argmax()], *(f"{value:.6f}" for value in row)] for row in probabilities]
