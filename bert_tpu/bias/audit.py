"""What the benchmarks of social bias say of models: read, scored, and put together as bias.json has it."""

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

FOLDERS = (".", "*", "*/*")  # where the files may lie in the data's directory
STEREOSET = ("stereoset*/**/dev*.json", "dev.json", "data/dev.json", "dev_intrasentence*.json")


class Task(NamedTuple):
    """A benchmark whose files were read."""

    name: str
    files: list[Path]
    score: Callable[[fill_mask.Model, str], Any]  # (model, name of the bar) -> the task's Result


def open_crows(directory: Path) -> Task | str:
    """CrowS-Pairs in `directory`, or what is missing; so with the other tasks."""
    if not (path := _find(directory, crows_pairs.FILE)):
        return f"there is no {crows_pairs.FILE}"
    pairs = crows_pairs.read(path)
    return Task("crows", [path], lambda filler, bar: crows_pairs.score(filler, pairs, bar))


def open_stereoset(directory: Path) -> Task | str:
    """StereoSet's published dev.json, or files of one domain each."""
    found = (sorted(directory.glob(pattern)) for pattern in STEREOSET)
    paths = next((paths for paths in found if paths), None)
    if not paths:
        return "there is neither dev.json nor stereoset/dev*.json"
    examples = stereoset.read(paths)
    return Task("stereoset", paths, lambda filler, bar: stereoset.score(filler, examples, bar))


def open_winogender(directory: Path) -> Task | str:
    """Winogender's sentences, with the shares of women where they are there."""
    if not (path := _find(directory, winogender.FILE)):
        return f"there is no {winogender.FILE}"
    beside = _find(directory, winogender.SHARES)
    sentences, shares = winogender.read(path), winogender.read_shares(beside) if beside else {}
    paths = [path, beside] if beside else [path]
    return Task("winogender", paths, lambda filler, bar: winogender.score(filler, sentences, shares, bar))


def open_templates(directory: Path) -> Task | str:
    """The templates, which need no file."""
    del directory
    return Task("templates", [], templates.score)


OPEN = {"crows": open_crows, "stereoset": open_stereoset, "winogender": open_winogender, "templates": open_templates}


def _find(directory, name):
    return next((path for folder in FOLDERS for path in sorted(directory.glob(f"{folder}/{name}"))), None)


def tasks(directory: str | Path, wanted: list[str]) -> tuple[list[Task], dict[str, str]]:
    """(the tasks whose files are in `directory`, why each other one is skipped).

    Raises UserError for files that cannot be read, and where nothing is left to do.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise command.UserError(f"there is no directory {directory}: give one with the benchmarks' files")
    opened = {name: OPEN[name](directory) for name in dict.fromkeys(wanted)}
    skipped = {name: f"{made} in {directory.name}" for name, made in opened.items() if isinstance(made, str)}
    if len(skipped) == len(opened):
        raise command.UserError(f"nothing can be audited: {'; '.join(skipped.values())}; give another --data")
    return [made for name, made in opened.items() if name not in skipped], skipped


def audit(paths: list[str], given: list[Task], skipped: dict[str, str]) -> dict[str, Any]:
    """What bias.json holds: where all is from, and under `models` each one's facts and Results.

    Raises UserError, before anything is scored, for a path that is no model with an MLM head, or comes twice.
    """
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise command.UserError(f"{twice[0]} is given twice: name each model once")
    loaded = [pretrained.load(path) for path in paths]
    fillers = [fill_mask.ready(found, path) for found, path in zip(loaded, paths, strict=True)]
    return {
        "package": {"name": bert_tpu.__name__, "version": bert_tpu.__version__, "jax": jax.__version__},
        "interval": {"percent": 95, "draws": metrics.RESAMPLES, "seed": bootstrap.SEED},
        "data": {
            task.name: {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in task.files}
            for task in given
        },
        "skipped": skipped,
        "models": [
            facts(found, label) | {task.name: plain(task.score(filler, f"{label}, {task.name}")) for task in given}
            for found, filler, label in zip(loaded, fillers, labels(paths), strict=True)
        ],
    }


def labels(paths: list[str]) -> list[str]:
    """A name for each model that may be published: its directory's, with a number where two directories share one."""
    short = [Path(path).resolve().name for path in paths]
    return [
        name if short.count(name) == 1 else f"{name} ({short[: i + 1].count(name)})" for i, name in enumerate(short)
    ]


def facts(found: hf.Pretrained, label: str) -> dict[str, Any]:
    """Size and identity of what is audited, the encoder and its MLM head."""
    section, sizes = found.model, (leaf.size for leaf in jax.tree.leaves(_audited(found.params)))
    return {
        "name": label,
        "layers": section["num_layers"], "hidden_size": section["hidden_size"], "heads": section["num_heads"],
        "vocab_size": section["vocab_size"], "parameters": int(sum(sizes)), "weights_sha256": weights_sha256(found),
    }  # fmt: skip


def weights_sha256(found: hf.Pretrained) -> str:
    """Of encoder and MLM head: names, shapes and float32 bytes, in the order of Hugging Face's names.

    It is the same for a workdir, its export, and an import of that; pooler and next-sentence head have no part in it.
    """
    digest = hashlib.sha256()
    for name, array in sorted(tensor_names.to_hf(_audited(found.params)).items()):
        digest.update(f"{name} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array, "<f4"))
    return digest.hexdigest()


def _audited(params):
    return {name: tree for name, tree in params.items() if name not in ("pooler", "nsp")}


def plain(value: Any) -> Any:
    """A Result as JSON has it: a named tuple is an object."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value
