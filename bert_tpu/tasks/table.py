"""Reads a user's own texts or pairs, with a class or a score each, from TSV, CSV or JSON lines."""

import functools
from pathlib import Path

import numpy as np

from bert_tpu.core import command
from bert_tpu.data import token_rows
from bert_tpu.readers import tabular
from bert_tpu.tasks import metrics
from bert_tpu.tasks.task import Task
from bert_tpu.tokenizer import vocab


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

    train, validation, test: paths, "" for a file that does not exist; test may lack the labels, and is scored if it
        has them
    text, text_pair, label: names of columns; text_pair is "" for single texts
    head: "regress", or "classify", whose classes are the labels of train in the order of their characters
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
    paths = {"train": train, "validation": validation, "test": test}
    tables = {split: tabular.read(path, (*texts, label)).whole() for split, path in paths.items() if path}
    classes = _classes(tables["train"], label) if head == "classify" else ()
    splits, eval_splits = {}, []
    for split, table in tables.items():
        if split == "test" and label not in table.values:
            labels = np.full(len(table.lines), token_rows.IGNORED, np.int32 if classes else np.float32)
        else:
            labels = _labels(table, label, classes)
            eval_splits += [split] if split != "train" else []
        pairs = table.column(text_pair) if text_pair else None
        splits[split] = token_rows.encode(
            table.column(text), pairs, labels, max_length=max_length, vocabulary=vocabulary
        )  # fmt: skip
    return Task(
        name="table",
        head=head,
        labels=classes or (label,),
        splits=splits,
        eval_splits=tuple(eval_splits),
        score=functools.partial(_score, head, splits),
        write=functools.partial(_write, classes),
        bootstrap=functools.partial(_bootstrap, head, splits),
    )


def _classes(table: tabular.Columns, label: str) -> tuple[str, ...]:
    names = sorted(set(table.column(label)) - {""})
    if len(names) < 2:
        raise command.UserError(f"{table.path} has fewer than two labels under {label!r}; there is nothing to learn")
    if broken := [name for name in names if set(name) & set("\t\r\n")]:
        raise command.UserError(f"{table.path} has a label with a tab or line break, {broken[0]!r}; fix it")
    return tuple(names)


def _labels(table: tabular.Columns, label: str, classes: tuple[str, ...]) -> np.ndarray:
    """Returns int32 classes, or float32 scores if there are no classes."""
    ids = {name: i for i, name in enumerate(classes)}
    values: list[float] = []
    for line, text in zip(table.lines, table.column(label), strict=True):
        value = ids.get(text) if classes else _finite(text)
        if value is None:
            problem = "not a class of the train file" if classes and text else "empty" if classes else "not a number"
            raise command.UserError(f"{table.path} line {line} has the label {text!r}, which is {problem}; fix it")
        values.append(value)
    return np.array(values, np.int32 if classes else np.float32)


def _finite(text: str) -> float | None:
    """Returns the number that `text` spells; None if it is not a finite number in float32."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if abs(number) <= float(np.finfo(np.float32).max) else None


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
    if classes:
        powers = np.exp(outputs.astype(np.float64) - outputs.max(1, keepdims=True))
        probabilities = powers / powers.sum(1, keepdims=True)
        rows = [[classes[row.argmax()], *(f"{value:.6f}" for value in row)] for row in probabilities]
    else:
        rows = [[f"{score:.6g}"] for score in outputs[:, 0]]
    lines = ["\t".join(cells) for cells in (header, *([str(i), *cells] for i, cells in enumerate(rows)))]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.tsv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
