"""One's own texts or pairs with a class or a score each, from TSV, CSV or JSON lines."""

import functools
from pathlib import Path

import numpy as np

from bert_tpu.core import command
from bert_tpu.data import token_rows
from bert_tpu.readers import tabular
from bert_tpu.tasks import metrics, task
from bert_tpu.tokenizer import vocab

MEASURES = {
    "classify": {"accuracy": metrics.ACCURACY, "macro_f1": metrics.MACRO_F1},
    "regress": {"pearson": metrics.PEARSON, "spearman": metrics.SPEARMAN},
}


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
) -> task.Task:
    """The task of files with a column `text`, a column `text_pair` unless that is "", and a column `label`.

    train, validation, test: paths, "" for a file that there is not. A test file may lack the labels; one that has them
    is judged as well. head: "classify", whose classes are the labels of train in the order of their characters, or
    "regress". Raises UserError where the files do not hold what is named.
    """
    if head not in MEASURES:
        raise command.UserError(f"head {head!r} is none of {', '.join(MEASURES)}; name the one that the labels are for")
    if not train:
        raise command.UserError("a task needs a train file: give --config.data.train=FILE")
    metrics.require()
    texts = (text, text_pair) if text_pair else (text,)
    paths = {"train": train, "validation": validation, "test": test}
    tables = {split: tabular.read(path, (*texts, label)).whole() for split, path in paths.items() if path}
    classes = _classes(tables["train"], label) if head == "classify" else ()
    splits, judged = {}, []
    for split, table in tables.items():
        if split == "test" and label not in table.values:
            labels = np.full(len(table.lines), token_rows.IGNORED, np.int32 if classes else np.float32)
        else:
            labels = _labels(table, label, classes)
            judged += [split] if split != "train" else []
        first, *second = (table.column(name) for name in texts)
        made = token_rows.encode(first, *(second or [None]), labels, max_length=max_length, vocabulary=vocabulary)
        splits[split] = made
    return task.Task(
        "table",
        head,
        classes or (label,),
        splits,
        tuple(judged),
        functools.partial(_score, head, splits),
        functools.partial(_write, classes),
        functools.partial(_draws, head, splits),
    )


def _classes(table: tabular.Columns, label: str) -> tuple[str, ...]:
    found = sorted(set(table.column(label)) - {""})
    if len(found) < 2:
        raise command.UserError(f"{table.path} has fewer than two labels under {label!r}; there is nothing to learn")
    if broken := [name for name in found if set(name) & set("\t\r\n")]:
        raise command.UserError(f"{table.path} has a label with a tab or line break, {broken[0]!r}; mend it")
    return tuple(found)


def _labels(table: tabular.Columns, label: str, classes: tuple[str, ...]) -> np.ndarray:
    """int32 classes, or float32 scores where there are no classes."""
    ids = {name: i for i, name in enumerate(classes)}
    found = []
    for line, value in zip(table.lines, table.column(label), strict=True):
        known = ids.get(value) if classes else _finite(value)
        if known is None:
            wanted = f"is no class{' of the train file' if value else ': it is empty'}" if classes else "is no number"
            raise command.UserError(f"{table.path} line {line} has the label {value!r}, which {wanted}; mend it")
        found.append(known)
    return np.array(found, np.int32 if classes else np.float32)


def _finite(value: str) -> float | None:
    """The number that a text is as float32, None where it is none."""
    try:
        number = float(value)
    except ValueError:
        return None
    return number if abs(number) <= float(np.finfo(np.float32).max) else None


def _score(head: str, splits: dict[str, token_rows.Rows], split: str, outputs: np.ndarray) -> dict[str, float]:
    return metrics.points(MEASURES[head], splits[split].labels, _predictions(head, outputs))


def _draws(head: str, splits: dict[str, token_rows.Rows], split: str, outputs: np.ndarray) -> dict[str, np.ndarray]:
    predictions = _predictions(head, outputs)
    return {name: metrics.draws(of, splits[split].labels, predictions) for name, of in MEASURES[head].items()}


def _predictions(head: str, outputs: np.ndarray) -> np.ndarray:
    return outputs.argmax(-1) if head == "classify" else outputs[..., 0]


def _write(classes: tuple[str, ...], split: str, outputs: np.ndarray, folder: Path) -> None:
    """SPLIT.tsv: index, prediction, and of classes the probability of each, by softmax in float64."""
    header = ["index", "prediction", *(f"probability of {name}" for name in classes)]
    if classes:
        powers = np.exp(outputs.astype(np.float64) - outputs.max(1, keepdims=True))
        chances = powers / powers.sum(1, keepdims=True)
        found = [[classes[row.argmax()], *(f"{chance:.6f}" for chance in row)] for row in chances]
    else:
        found = [[f"{score:.6g}"] for score in outputs[:, 0]]
    lines = ["\t".join(cells) for cells in (header, *([str(i), *cells] for i, cells in enumerate(found)))]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{split}.tsv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
