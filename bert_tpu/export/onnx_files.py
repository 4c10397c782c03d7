"""Adds onnx/ to an exported directory: its model in every form, and quantization.json with the cost of each form."""

from collections.abc import Callable
import importlib.metadata
import json
from pathlib import Path
import platform
from typing import Any, NamedTuple

import ml_collections
import numpy as np

from bert_tpu.core import command, json_files, processors, storage
from bert_tpu.corpus import store
from bert_tpu.export import onnx_benchmark, onnx_graph, onnx_quantize
from bert_tpu.finetune import finetuning
from bert_tpu.huggingface import architectures
from bert_tpu.pretrain import pretraining
from bert_tpu.tasks import reader
from bert_tpu.tokenizer import vocab
from bert_tpu.training import workdir

FOLDER, COSTS = "onnx", "quantization.json"
ROWS = 256  # of the evaluation split for each length, unless `write` gets another number
TOKENS = 128  # of the timed row, or all of the model's positions if it has fewer
# transformers.js looks for these file names for dtype "fp32", "q8" and "q4".
FORMS = {
    "float32": ("model.onnx", onnx_quantize.float32),
    "int8": ("model_quantized.onnx", onnx_quantize.int8),
    "4-bit": ("model_q4.onnx", onnx_quantize.four_bits),
}


def write(directory: str | Path, run: str | Path | None = None, rows: int | None = None) -> dict[str, Any]:
    """Writes directory/onnx and returns the content of its quantization.json.

    directory: an exported model.
    run: the workdir of the model's pretraining or fine-tuning, to score each form: on the evaluation split, or on the
        split that the task is judged on first. Without it no form is scored.
    rows: rows of a pretraining's evaluation split for each length, at most; ROWS if not given.
    Raises UserError if onnx/ exists, if a package is missing, if `run` did not train this model, or if `rows` is given
    with a fine-tuning, which is scored on all rows.
    """
    command.require("ONNX", *onnx_graph.PACKAGES, extra="onnx")
    directory = Path(directory)
    name, positions = onnx_graph.read_config(directory)
    tokens = min(TOKENS, positions)
    if (directory / FOLDER).exists():
        raise command.UserError(f"{directory / FOLDER} exists: remove it to write it again")
    judge = _judge(directory, name, Path(run), rows) if run else None
    with storage.atomic_directory(directory / FOLDER) as out:
        print(f"{directory}: from PyTorch to ONNX", flush=True)
        model, difference = onnx_graph.export(directory)
        files: list[dict[str, Any]] = []
        sessions = []
        for form, (file, convert) in FORMS.items():
            (out / file).write_bytes(convert(model).SerializeToString())
            size = (out / file).stat().st_size
            print(f"{directory / FOLDER / file}: {form}, {size / 1e6:.1f} MB", flush=True)
            files.append({"file": file, "form": form, "bytes": size})
            sessions.append(onnx_graph.session(out / file))
        del model
        latencies = onnx_benchmark.latencies(sessions, tokens)
        for entry, session, milliseconds in zip(files, sessions, latencies, strict=True):
            entry["milliseconds"] = milliseconds
            entry["scores"] = judge.score(session, entry["form"]) if judge else {}
        costs = {
            "class": name, "difference_from_pytorch": difference, "tokens": tokens, "judged_on": judge and judge.data,
            "files": files, "machine": platform.machine(), "threads": processors.available(),
            "versions": _versions(),
        }  # fmt: skip
        (out / COSTS).write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")
    return costs


def read(directory: str | Path) -> dict[str, Any]:
    """Reads quantization.json of an exported directory; {} if it has none."""
    return json_files.read_if_any(Path(directory) / FOLDER / COSTS, {"files": [dict]})


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("onnx", "onnxruntime", "torch", "transformers")}


class Judge(NamedTuple):
    """Scores a session of any form."""

    score: Callable[[onnx_graph.Session, str], dict[str, float]]  # (session, form) -> scores
    data: str  # the name of the scored data and the number of rows


def _judge(directory: Path, name: str, run: Path, rows: int | None) -> Judge:
    """Reads the evaluation data of the workdir `run`; UserError unless it trained the class `name` in `directory`."""
    config, pieces = workdir.read_config(run), vocab.load(directory).pieces
    vocabulary = vocab.load(run / "tokenizer")
    [pretrained] = architectures.PRETRAINED["architectures"]
    expected = architectures.FINETUNED[config["task"]["head"]].name if "task" in config else pretrained
    if expected != name or pieces != vocabulary.pieces:
        trained = "another vocabulary" if expected == name else f"a {expected}"
        raise command.UserError(f"{run} trained {trained}, {directory} is a {name}: give its own workdir")
    if "task" not in config:
        batches = _heldout(ml_collections.ConfigDict(config), rows or ROWS)
        data = ", ".join(f"{len(batch['input_ids'])} held-out rows of {n} tokens" for n, batch in batches)
        return Judge(lambda session, form: onnx_benchmark.pretraining_scores(session, batches, form), data)
    if rows:
        raise command.UserError(f"{run} is a fine-tuning, which is scored on all rows of a split: leave --rows out")
    task = reader.read(ml_collections.ConfigDict(config), vocabulary)
    if not task.eval_splits:
        raise command.UserError(f"the data of {run} have no labelled split to judge on: leave --workdir out")
    finetuning.check_rows(task, config, run)
    split = task.eval_splits[0]
    split_rows = task.splits[split]

    def score(session: onnx_graph.Session, form: str) -> dict[str, float]:
        return task.score(split, onnx_benchmark.task_outputs(session, split_rows, task.head, form))

    return Judge(score, f"{task.name}, {split}, {len(split_rows.lengths):,} rows")


def _heldout(cfg: ml_collections.ConfigDict, rows: int) -> list[tuple[int, dict[str, np.ndarray]]]:
    """Returns (length, batch of the first `rows` of the run's evaluation split) for each length, one example a row."""
    from bert_tpu.data import corpus_batches, host_share

    spec = pretraining.make_batch_spec(cfg)._replace(packed_rows=0)
    share = host_share.load(store.read(cfg.data.dir), "heldout", batch_size=cfg.batch_size)
    whole = -(-rows // cfg.batch_size)
    by_length: dict[int, list[dict[str, np.ndarray]]] = {}
    for seq_len, batch in corpus_batches.heldout(share, spec, min(whole, cfg.eval.num_batches)):
        by_length.setdefault(seq_len, []).append(batch)
    return [
        (seq_len, {key: np.concatenate([batch[key] for batch in batches])[:rows] for key in batches[0]})
        for seq_len, batches in by_length.items()
    ]
