"""Reads GLUE, Wang et al. (2019), https://gluebenchmark.com: nine tasks and the diagnostics, from TSVs or TFDS."""

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
from bert_tpu.tasks import glue_specs, glue_submission, metrics, table_labels, text_notes
from bert_tpu.tasks.task import Task
from bert_tpu.tokenizer import vocab

OTHER_TABLES = (".csv", ".jsonl", ".json", ".parquet")  # of GLUE from elsewhere, which --config pairs reads
# Files of the diagnostics, which may be in MNLI's folder.
DIAGNOSTICS = {name for file in glue_specs.TASKS["ax"].files.values() for name in file.names}


class RawSplit(NamedTuple):
    """Texts and labels of a split, as read."""

    texts: list[list[str]]  # one column or two
    labels: list[str | float | None]  # None in a test split
    source: str  # "train.tsv line": the beginning of error messages, followed by a number
    numbers: list[int]  # of each row
    notes: tuple[str, ...] = ()  # what the user should know


class Split(NamedTuple):
    """An encoded split, with its own task: the model of MNLI also predicts the diagnostics, whose task is "ax"."""

    task: str
    name: str
    rows: token_rows.Rows
    notes: tuple[str, ...] = ()

    @property
    def spec(self) -> glue_specs.Spec:
        """Specification of the task."""
        return glue_specs.TASKS[self.task]


def load(*, task: str, dir: str, max_length: int, vocabulary: vocab.Vocab) -> Task:
    """Returns a task of GLUE with the splits in `dir`; for mnli also those of ax, as ax_test and ax_answers.

    Rows have the order of the official files. Lines of QQP's train.tsv and dev.tsv that a line break tore apart are
    left out, as in TFDS, and their number is printed on standard error. Raises UserError if data are missing or wrong.

    task: a key of glue_specs.TASKS
    dir: the folder of the tasks' folders, which have GLUE's names or those of glue_specs.TASKS, the task's own folder,
        or tfds:glue/rte
    max_length: tokens of the longest row
    """
    if task not in glue_specs.TASKS:
        raise command.UserError(f"there is no task {task!r} in GLUE; take one of {', '.join(glue_specs.TASKS)}")
    if not dir:
        raise command.UserError("no data: give --config.data.dir=DIR, a folder of the official TSVs, or tfds:glue/TASK")
    metrics.require()
    splits = _splits(task, dir, [dir], max_length=max_length, vocabulary=vocabulary)
    if not splits:
        raise command.UserError(_absence(glue_specs.TASKS[task], dir))
    if task == "mnli":
        place, others = _diagnostics(dir)
        diagnostics = _splits("ax", place, others, max_length=max_length, vocabulary=vocabulary) if place else {}
        splits |= {f"ax_{name}": split for name, split in diagnostics.items()}
    return _task(task, splits)


def _absence(spec: glue_specs.Spec, folder: str) -> str:
    """Returns a sentence about a folder without any file of the task."""
    names = ", ".join(name for file in spec.files.values() for name in file.names)
    sentence = f"neither {folder} nor {spec.folders[0]} in it has any of {names}; fix the path"
    places = [epath.Path(folder), *(epath.Path(folder) / name for name in spec.folders)]
    others = [path for place in places if place.is_dir() for path in place.iterdir() if path.suffix in OTHER_TABLES]
    if others:
        return f"{sentence}, or learn from {min(others).name} with --config pairs"
    packed = [path.name for place in places if place.is_dir() for path in place.iterdir() if ".tsv." in path.name]
    return f"{sentence}, or decompress {min(packed)}" if packed else sentence


def _diagnostics(mnli: str) -> tuple[str, list[str]]:
    """Returns the places where the diagnostics may be, from that of MNLI: the first one and others.

    The first one is "" if TFDS does not have them.
    """
    if mnli.startswith(tfds.PREFIX):
        name = mnli.replace("/mnli", "/ax", 1)
        return name if tfds.is_prepared(name) else "", []
    root = epath.Path(mnli)
    return str(root if any((root / name).is_dir() for name in ("MNLI", "mnli")) else root.parent), [mnli]


def _splits(task: str, place: str, others: list[str], *, max_length: int, vocabulary: vocab.Vocab) -> dict[str, Split]:
    """Reads and encodes the splits that exist."""
    spec, splits = glue_specs.TASKS[task], {}
    for name, raw in read_splits(task, place, others).items():
        pairs = raw.texts[1] if len(raw.texts) > 1 else None
        labels = _labels(spec, name, raw)
        rows = token_rows.encode(raw.texts[0], pairs, labels, max_length=max_length, vocabulary=vocabulary)
        splits[name] = Split(task, name, rows, raw.notes)
    return splits


def read_splits(task: str, place: str, others: Sequence[str] = ()) -> dict[str, RawSplit]:
    """Reads the splits of a task that exist.

    place: a name in TFDS, or a folder of the tasks' folders
    others: other folders that may be the task's; the first folder with any split is read
    """
    spec, splits = glue_specs.TASKS[task], {}
    if place.startswith(tfds.PREFIX):
        return _from_tfds(spec, place)
    for folder in [*(epath.Path(place) / name for name in (*spec.folders, task)), *map(epath.Path, others)]:
        if splits := _from_folder(spec, folder):
            break
    return splits


def _from_folder(spec: glue_specs.Spec, folder: Path) -> dict[str, RawSplit]:
    splits = {}
    for split, file in spec.files.items():
        for path in (folder / name for name in file.names):
            if path.exists():
                splits[split] = _from_tsv(spec, split, file, path)
                break
    known = {name for file in spec.files.values() for name in file.names}
    tables = {path.name for path in folder.iterdir() if path.suffix == ".tsv"} if splits else set()
    if others := sorted(tables - known - DIAGNOSTICS):
        first = next(iter(splits))
        note = f"{folder}: {', '.join(others)} is not read; GLUE's names are {', '.join(sorted(known))}"
        splits[first] = splits[first]._replace(notes=(*splits[first].notes, note))
    return splits


def _from_tsv(spec: glue_specs.Spec, split: str, file: glue_specs.File, path: Path) -> RawSplit:
    columns = tabular.read(path, (*file.texts, file.label), header=file.header)
    is_test = split in spec.submission
    if spec.may_be_torn and not is_test and columns.torn:
        print(f"{path}: {len(columns.torn)} torn lines are left out, the first line {columns.torn[0]}", file=sys.stderr)
    else:
        columns.whole()
    if is_test and not all(
        text in ("-1", "-1.0") or table_labels.is_missing(text) for text in columns.values.get(file.label, [])
    ):
        raise command.UserError(f"{path} has a column {file.label!r}, but a test split has no labels; take it out")
    labels = [None] * len(columns.lines) if is_test else columns.column(file.label)
    texts = [columns.column(name) for name in file.texts]
    notes = [note for column in texts for note in text_notes.notes(str(path), "line", columns.lines, column)]
    return RawSplit(texts, [*labels], f"{path} line", columns.lines, (*columns.notes, *notes))


def _from_tfds(spec: glue_specs.Spec, name: str) -> dict[str, RawSplit]:
    tables = tfds.tables(name, (*spec.features, "label", "idx"))
    for split, table in tables.items():
        if split not in spec.files or not table["idx"]:
            raise command.UserError(
                f"{name} has a split {split!r} that GLUE does not have, or without rows; fix the name"
            )
    texts_of = dict(zip(spec.classes, spec.label_texts, strict=True)) | {float(token_rows.IGNORED): None}
    splits = {}
    for split in (split for split in spec.files if split in tables):
        order = np.argsort(tables[split]["idx"], kind="stable")  # TFDS has shuffled the official files
        table = {feature: [values[i] for i in order] for feature, values in tables[split].items()}
        labels = [texts_of.get(label, label) for label in table["label"]]
        texts = [table[feature] for feature in spec.features]
        splits[split] = RawSplit(texts, labels, f"{name} {split} idx", table["idx"])
    return splits


def _labels(spec: glue_specs.Spec, split: str, raw: RawSplit) -> np.ndarray:
    """Returns int32 classes or float32 scores [rows]; raises UserError for one that is missing, unknown or unwanted."""
    ids = {text: i for i, text in enumerate(spec.label_texts)}
    values: list[float] = []
    for label, number in zip(raw.labels, raw.numbers, strict=True):
        value: float | None
        if split in spec.submission:
            value, problem = token_rows.IGNORED if label is None else None, "but a test split has no labels"
        elif spec.classes:
            value, problem = ids.get(label) if isinstance(label, str) else None, f"which is not one of {', '.join(ids)}"
        else:
            value, problem = _number(label), "which is not a number from 0 to 5"
        if value is None:
            if str(label) in map(str, range(len(ids))):  # here the classes have words
                problem += f" ({', '.join(f'{i} is {text}' for i, text in enumerate(ids))} in Hugging Face's files)"
            raise command.UserError(f"{raw.source} {number} has the label {label!r}, {problem}; fix it")
        values.append(value)
    return np.array(values, np.int32 if spec.classes else np.float32)


def _number(label: str | float | None) -> float | None:
    """Returns a score of STS-B as a number; None if it is not one from 0 to 5."""
    try:
        return value if label is not None and 0 <= (value := float(label)) <= 5 else None
    except ValueError:
        return None


def _task(name: str, splits: dict[str, Split]) -> Task:
    spec = glue_specs.TASKS[name]
    eval_splits = tuple(
        key for key, split in splits.items() if key != "train" and split.name not in split.spec.submission
    )
    notes = [note for split in splits.values() for note in split.notes]
    if not eval_splits:
        notes.append("no labelled split except train, so nothing is scored")
    return Task(
        name=name,
        head="classify" if spec.classes else "regress",
        labels=spec.classes or ("score",),
        splits={key: split.rows for key, split in splits.items()},
        eval_splits=eval_splits,
        score=functools.partial(_score, splits),
        write=functools.partial(_write, name, splits),
        bootstrap=functools.partial(_bootstrap, splits),
        notes=tuple(notes),
    )


def _score(splits: dict[str, Split], key: str, outputs: np.ndarray) -> dict[str, float]:
    split = splits[key]
    return metrics.scores(metrics.GLUE[split.task], split.rows.labels, _predictions(split.spec, outputs))


def _bootstrap(splits: dict[str, Split], key: str, outputs: np.ndarray) -> dict[str, np.ndarray]:
    split, predictions = splits[key], _predictions(splits[key].spec, outputs)
    return {
        name: metrics.bootstrap(metric, split.rows.labels, predictions)
        for name, metric in metrics.GLUE[split.task].items()
    }


def _predictions(spec: glue_specs.Spec, outputs: np.ndarray) -> np.ndarray:
    return outputs.argmax(-1) if spec.classes else outputs[..., 0]


def _write(task: str, splits: dict[str, Split], key: str, outputs: np.ndarray, folder: Path) -> None:
    """Writes the server's file for a test split; for another split, rte-validation.tsv in the same format."""
    spec = splits[key].spec
    predictions = _predictions(spec, outputs)
    if spec.classes:
        words = [spec.label_texts[i] for i in predictions]
    else:
        words = [f"{score:.3f}" for score in np.clip(predictions, 0, 5)]
    file = spec.submission.get(splits[key].name, f"{task}-{key}.tsv")
    glue_submission.write(folder / file, words)
