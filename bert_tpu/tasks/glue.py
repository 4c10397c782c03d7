"""GLUE, Wang et al. (2019), https://gluebenchmark.com: nine tasks and the diagnostics, from official TSVs or TFDS."""

from collections.abc import Sequence
import functools
from pathlib import Path
import sys
from typing import NamedTuple

from etils import epath
import numpy as np

from bert_tpu.core import command
from bert_tpu.data import token_rows
from bert_tpu.readers import tabular, tfds
from bert_tpu.tasks import glue_specs, glue_submission, metrics, task
from bert_tpu.tokenizer import vocab


class Table(NamedTuple):
    """A split's texts and labels as they were read; a label of a test split is None."""

    texts: list[list[str]]  # one column or two
    labels: list
    where: str  # "train.tsv line", for complaints, with
    numbers: list[int]  # of each row


class Part(NamedTuple):
    """A split of a task, and the task in the table that it is of: MNLI's model predicts the diagnostics too."""

    glue: glue_specs.Glue
    split: str
    rows: token_rows.Rows


def load(*, task: str, dir: str, max_length: int, vocabulary: vocab.Vocab) -> task.Task:
    """The task of this name, with the splits that are in `dir`; mnli has those of ax too, as ax_test and ax_answers.

    dir: a folder of the tasks' folders, the task's own folder, or tfds:glue/rte. Rows are in the order of the official
    files. Lines of QQP's train.tsv and dev.tsv that a line break tore apart are left out, as TFDS does, and counted
    on standard error. Raises UserError where data are missing or wrong.
    """
    if task not in glue_specs.TASKS:
        raise command.UserError(f"there is no task {task!r} in GLUE; take one of {', '.join(glue_specs.TASKS)}")
    if not dir:
        raise command.UserError("no data: give --config.data.dir=DIR, a folder of the official TSVs, or tfds:glue/TASK")
    metrics.require()
    parts = _parts(task, dir, [dir], max_length=max_length, vocabulary=vocabulary)
    if not parts:
        wanted = ", ".join(name for file in glue_specs.TASKS[task].files.values() for name in file.names)
        raise command.UserError(
            f"{dir} holds none of {wanted}, nor does {glue_specs.TASKS[task].folders[0]} in it; mend the path"
        )
    if task == "mnli":
        near, others = _diagnostics(dir)
        found = _parts("ax", near, others, max_length=max_length, vocabulary=vocabulary) if near else {}
        parts |= {f"ax_{split}": part for split, part in found.items()}
    return _made(task, parts)


def _diagnostics(dir: str) -> tuple[str, list[str]]:
    """Where the diagnostics may be, given where MNLI is; "" where they are not."""
    if dir.startswith(tfds.PREFIX):
        name = dir.replace("/mnli", "/ax", 1)
        return name if tfds.is_prepared(name) else "", []
    root = epath.Path(dir)
    return str(root if (root / "MNLI").is_dir() else root.parent), [dir]


def _parts(name: str, dir: str, others: list[str], *, max_length: int, vocabulary: vocab.Vocab) -> dict[str, Part]:
    """The splits that are there, encoded."""
    glue, parts = glue_specs.TASKS[name], {}
    for split, table in tables(name, dir, others).items():
        first, second = table.texts[0], table.texts[1] if len(table.texts) > 1 else None
        labels = _labels(glue, split, table)
        made = token_rows.encode(first, second, labels, max_length=max_length, vocabulary=vocabulary)
        parts[split] = Part(glue, split, made)
    return parts


def tables(name: str, dir: str, others: Sequence[str] = ()) -> dict[str, Table]:
    """The splits that are there: in TFDS, or the first of the task's folders in dir, and then `others`, with any."""
    glue, found = glue_specs.TASKS[name], {}
    if dir.startswith(tfds.PREFIX):
        return _from_tfds(glue, dir)
    for folder in [*(epath.Path(dir) / folder for folder in glue.folders), *map(epath.Path, others)]:
        if found := _from_folder(glue, folder):
            break
    return found


def _from_folder(glue: glue_specs.Glue, folder: Path) -> dict[str, Table]:
    tables = {}
    for split, file in glue.files.items():
        for path in (folder / name for name in file.names):
            if path.exists():
                tables[split] = _from_tsv(glue, split, file, path)
                break
    return tables


def _from_tsv(glue: glue_specs.Glue, split: str, file: glue_specs.File, path: Path) -> Table:
    found = tabular.read(path, (*file.texts, file.label), header=file.header)
    if glue.torn and split not in glue.sent and found.torn:
        print(f"{path}: {len(found.torn)} torn lines are left out, the first line {found.torn[0]}", file=sys.stderr)
    else:
        found.whole()
    if split in glue.sent and file.label in found.values:
        raise command.UserError(f"{path} has a column {file.label!r}, but a test split has no labels; take it out")
    labels = [None] * len(found.lines) if split in glue.sent else found.column(file.label)
    return Table([found.column(name) for name in file.texts], labels, f"{path} line", found.lines)


def _from_tfds(glue: glue_specs.Glue, name: str) -> dict[str, Table]:
    splits = tfds.tables(name, (*glue.features, "label", "idx"))
    for split, found in splits.items():
        if split not in glue.files or not found["idx"]:
            raise command.UserError(f"{name} has a split {split!r} that GLUE has not, or without rows; mend the name")
    spelt = dict(zip(glue.classes, glue.spelt, strict=True)) | {float(token_rows.IGNORED): None}
    tables = {}
    for split in (split for split in glue.files if split in splits):
        order = np.argsort(splits[split]["idx"], kind="stable")  # TFDS has shuffled the official files
        found = {feature: [values[i] for i in order] for feature, values in splits[split].items()}
        labels = [spelt.get(label, label) for label in found["label"]]
        texts = [found[feature] for feature in glue.features]
        tables[split] = Table(texts, labels, f"{name} {split} idx", found["idx"])
    return tables


def _labels(glue: glue_specs.Glue, split: str, table: Table) -> np.ndarray:
    """int32 classes or float32 scores [rows]; raises UserError where one is missing, unknown or out of place."""
    ids = {spelt: i for i, spelt in enumerate(glue.spelt)}
    found = []
    for label, number in zip(table.labels, table.numbers, strict=True):
        if split in glue.sent:
            value, known = token_rows.IGNORED if label is None else None, "to be predicted, not given"
        elif glue.classes:
            value, known = ids.get(label), f"none of {', '.join(ids)}"
        else:
            value, known = _number(label), "no number from 0 to 5"
        if value is None:
            raise command.UserError(f"{table.where} {number} has the label {label!r}, which is {known}; mend it")
        found.append(value)
    return np.array(found, np.int32 if glue.classes else np.float32)


def _number(label: str | float | None) -> float | None:
    """The number that a label is, None where it is none of STS-B's."""
    try:
        return value if 0 <= (value := float(label)) <= 5 else None
    except (TypeError, ValueError):
        return None


def _made(name: str, parts: dict[str, Part]) -> task.Task:
    """The task of these splits."""
    glue = glue_specs.TASKS[name]
    return task.Task(
        name,
        "classify" if glue.classes else "regress",
        glue.classes or ("score",),
        {split: part.rows for split, part in parts.items()},
        tuple(split for split, part in parts.items() if split != "train" and part.split not in part.glue.sent),
        functools.partial(_score, parts),
        functools.partial(_write, name, parts),
        functools.partial(_draws, parts),
    )


def _score(parts: dict[str, Part], split: str, outputs: np.ndarray) -> dict[str, float]:
    glue = parts[split].glue
    return metrics.points(glue.measures, parts[split].rows.labels, _predictions(glue, outputs))


def _draws(parts: dict[str, Part], split: str, outputs: np.ndarray) -> dict[str, np.ndarray]:
    glue, labels = parts[split].glue, parts[split].rows.labels
    return {name: metrics.draws(of, labels, _predictions(glue, outputs)) for name, of in glue.measures.items()}


def _predictions(glue: glue_specs.Glue, outputs: np.ndarray) -> np.ndarray:
    return outputs.argmax(-1) if glue.classes else outputs[..., 0]


def _write(name: str, parts: dict[str, Part], split: str, outputs: np.ndarray, folder: Path) -> None:
    """The server's file of a test split, in the same form rte-validation.tsv of any other."""
    glue = parts[split].glue
    predictions = _predictions(glue, outputs)
    if glue.classes:
        words = [glue.spelt[i] for i in predictions]
    else:
        words = [f"{score:.3f}" for score in np.clip(predictions, 0, 5)]
    file = glue.sent.get(parts[split].split, f"{name}-{split}.tsv")
    glue_submission.write(folder / file, words)
