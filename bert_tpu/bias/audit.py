"""Reads the benchmarks of social bias, scores models on them, and returns the content of bias.json."""

from collections.abc import Callable
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import bert_tpu
from bert_tpu.bias import bootstrap, crows_pairs, stereoset, templates, winogender
from bert_tpu.core import command
from bert_tpu.huggingface import hf, pretrained, tensor_names
from bert_tpu.inference import fill_mask
from bert_tpu.tasks import metrics

FOLDERS = (".", "*", "*/*")  # folders of the data's directory in which a file is looked for
STEREOSET = ("stereoset*/**/dev*.json", "dev.json", "data/dev.json", "dev_intrasentence*.json")


class Task(NamedTuple):
    """A benchmark whose files were read."""

    name: str
    files: list[Path]
    score: Callable[[fill_mask.Model, str], Any]  # (model, name of the bar) -> the task's Result
    remark: str = ""  # how the files differ from the published ones


def open_crows(directory: Path) -> Task | str:
    """Reads CrowS-Pairs from `directory`. Returns a sentence instead if its file is missing, as the other tasks do."""
    if not (path := _find(directory, crows_pairs.FILE)):
        return f"there is no {crows_pairs.FILE}"
    pairs = crows_pairs.read(path)
    return Task("crows", [path], lambda filler, bar: crows_pairs.score(filler, pairs, bar), crows_pairs.remark(pairs))


def open_stereoset(directory: Path) -> Task | str:
    """Reads StereoSet: its published dev.json, or files of one domain each."""
    candidates = (sorted(directory.glob(pattern)) for pattern in STEREOSET)
    paths = next((paths for paths in candidates if paths), None)
    if not paths:
        return "there is neither dev.json nor stereoset/dev*.json"
    examples = stereoset.read(paths)
    remark = stereoset.remark(examples)
    return Task("stereoset", paths, lambda filler, bar: stereoset.score(filler, examples, bar), remark)


def open_winogender(directory: Path) -> Task | str:
    """Reads Winogender's sentences, and the shares of women in the occupations if their file is there."""
    if not (path := _find(directory, winogender.FILE)):
        return f"there is no {winogender.FILE}"
    shares_path = _find(directory, winogender.SHARES)
    sentences, shares = winogender.read(path), winogender.read_shares(shares_path) if shares_path else {}
    paths = [path, shares_path] if shares_path else [path]
    remark = winogender.remark(sentences)
    return Task("winogender", paths, lambda filler, bar: winogender.score(filler, sentences, shares, bar), remark)


def open_templates(directory: Path) -> Task | str:
    """Returns the task of the templates, which need no file."""
    del directory
    return Task("templates", [], templates.score)


OPEN = {"crows": open_crows, "stereoset": open_stereoset, "winogender": open_winogender, "templates": open_templates}


def _find(directory: Path, name: str) -> Path | None:
    return next((path for folder in FOLDERS for path in sorted(directory.glob(f"{folder}/{name}"))), None)


def tasks(directory: str | Path, wanted: list[str]) -> tuple[list[Task], dict[str, str]]:
    """Returns (the `wanted` tasks whose files are in `directory`, reason why each other one is skipped).

    Raises UserError for files that cannot be read, and if no task is left.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise command.UserError(f"there is no directory {directory}: give one with the benchmarks' files")
    opened = {name: OPEN[name](directory) for name in dict.fromkeys(wanted)}
    skipped = {name: f"{lack} in {directory.name}" for name, lack in opened.items() if isinstance(lack, str)}
    if len(skipped) == len(opened):
        raise command.UserError(f"nothing can be audited: {'; '.join(skipped.values())}; give another --data")
    return [task for task in opened.values() if isinstance(task, Task)], skipped


def audit(paths: list[str], tasks: list[Task], skipped: dict[str, str]) -> dict[str, Any]:
    """Returns the content of bias.json: versions, hashes, remarks, and under `models` each model's facts and Results.

    paths: directories of the models.
    tasks: the tasks to score the models on.
    skipped: name of each skipped task -> reason.
    Raises UserError, before anything is scored, for a path that is not a model with an MLM head, or is named twice.
    """
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise command.UserError(f"{twice[0]} is named twice: name each model once")
    loaded = [pretrained.load(path) for path in paths]
    fillers = [fill_mask.ready(model, path) for model, path in zip(loaded, paths, strict=True)]
    return {
        "package": {"name": bert_tpu.__name__, "version": bert_tpu.__version__, "jax": jax.__version__},
        "interval": {"percent": 95, "draws": metrics.RESAMPLES, "seed": bootstrap.SEED},
        "data": {
            task.name: {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in task.files}
            for task in tasks
        },
        "skipped": skipped,
        "remarks": {task.name: task.remark for task in tasks if task.remark},
        "models": [
            facts(model, label) | {task.name: plain(task.score(filler, f"{label}, {task.name}")) for task in tasks}
            for model, filler, label in zip(loaded, fillers, labels(paths), strict=True)
        ],
    }


def labels(paths: list[str]) -> list[str]:
    """Names of the models for publication: the directory's name, with a number if two directories share one."""
    short = [Path(path).resolve().name for path in paths]
    return [
        name if short.count(name) == 1 else f"{name} ({short[: i + 1].count(name)})" for i, name in enumerate(short)
    ]


def facts(model: hf.Pretrained, label: str) -> dict[str, Any]:
    """Sizes and identity of the audited parts of a model: the encoder and its MLM head."""
    section, sizes = model.model, (leaf.size for leaf in jax.tree.leaves(_audited(model.params)))
    return {
        "name": label,
        "layers": section["num_layers"], "hidden_size": section["hidden_size"], "heads": section["num_heads"],
        "vocab_size": section["vocab_size"], "parameters": int(sum(sizes)), "weights_sha256": weights_sha256(model),
    }  # fmt: skip


def weights_sha256(model: hf.Pretrained) -> str:
    """SHA-256 of encoder and MLM head: names, shapes and float32 bytes, in the order of Hugging Face's names.

    It is the same for a workdir, its export, and an import of that. Pooler and next-sentence head are left out.
    """
    digest = hashlib.sha256()
    for name, array in sorted(tensor_names.to_hf(_audited(model.params)).items()):
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array, "<f4").data)
    return digest.hexdigest()


def _audited(params: dict[str, Any]) -> dict[str, Any]:
    return {name: tree for name, tree in params.items() if name not in ("pooler", "nsp")}


def plain(value: Any) -> Any:
    """A Result as JSON values: a named tuple becomes an object."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value
