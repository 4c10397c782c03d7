"""An exported directory gets onnx/: its model in every form, and quantization.json, what each costs."""

import importlib.metadata
import json
import os
from pathlib import Path
import platform
from typing import Any

import ml_collections
import numpy as np

from bert_tpu.core import command, storage
from bert_tpu.corpus import store
from bert_tpu.export import onnx_benchmark, onnx_graph, onnx_quantize
from bert_tpu.finetune import finetuning
from bert_tpu.huggingface import architectures
from bert_tpu.pretrain import pretraining
from bert_tpu.tokenizer import vocab
from bert_tpu.training import workdir

FOLDER, COSTS = "onnx", "quantization.json"
TOKENS = 128  # of the row that is timed, where the model takes so many
# Under the names by which transformers.js looks for dtype "fp32", "q8" and "q4".
FORMS = {
    "float32": ("model.onnx", onnx_quantize.float32),
    "int8": ("model_quantized.onnx", onnx_quantize.int8),
    "4-bit": ("model_q4.onnx", onnx_quantize.four_bits),
}


def write(directory, run=None, rows=256) -> dict[str, Any]:
    """Makes directory/onnx and returns what its quantization.json holds.

    run: the workdir of the training that `directory` is of; on at most `rows` of its held-out rows of each length, or
    on the split that its task is judged on first, each form is then scored. Raises UserError where onnx/ exists, where
    a package is missing, or where run and model do not fit.
    """
    command.require("ONNX", *onnx_graph.PACKAGES, extra="onnx")
    directory = Path(directory)
    name, positions = onnx_graph.config(directory)
    tokens = min(TOKENS, positions)
    if (directory / FOLDER).exists():
        raise command.UserError(f"{directory / FOLDER} exists: remove it to make it again")
    judge, judged = _judge(directory, name, Path(run), rows) if run else (None, None)
    with storage.atomic_directory(directory / FOLDER) as out:
        print(f"{directory}: from PyTorch to ONNX", flush=True)
        model, difference = onnx_graph.of(directory)
        files, sessions = [], []
        for form, (file, make) in FORMS.items():
            (out / file).write_bytes(make(model).SerializeToString())
            size = (out / file).stat().st_size
            print(f"{directory / FOLDER / file}: {form}, {size / 1e6:.1f} MB", flush=True)
            files.append({"file": file, "form": form, "bytes": size})
            sessions.append(onnx_graph.session(out / file))
        del model
        for told, session, milliseconds in zip(
            files, sessions, onnx_benchmark.latencies(sessions, tokens), strict=True
        ):
            told["milliseconds"] = milliseconds
            told["scores"] = judge(session, told["form"]) if judge else {}
        costs = {
            "class": name, "difference_from_pytorch": difference, "tokens": tokens, "judged_on": judged,
            "files": files, "machine": platform.machine(), "threads": len(os.sched_getaffinity(0)),
            "versions": _versions(),
        }  # fmt: skip
        (out / COSTS).write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")
    return costs


def read(directory) -> dict[str, Any]:
    """quantization.json of an exported directory; {} where it has none."""
    return workdir.read_json(Path(directory) / FOLDER / COSTS)


def _versions():
    return {name: importlib.metadata.version(name) for name in ("onnx", "onnxruntime", "torch", "transformers")}


def _judge(directory, name, run, rows):
    """(function of a session and a form -> scores, what they are of)."""
    config, pieces = workdir.read_config(run), vocab.load(directory).pieces
    vocabulary = vocab.load(run / "tokenizer")
    [pretrained] = architectures.PRETRAINED["architectures"]
    expected = architectures.FINETUNED[config["task"]["head"]].name if "task" in config else pretrained
    if expected != name or pieces != vocabulary.pieces:
        what = "another vocabulary" if expected == name else f"a {expected}"
        raise command.UserError(f"{run} trained {what}, {directory} is a {name}: give its own workdir")
    if "task" not in config:
        batches = _heldout(ml_collections.ConfigDict(config), rows)
        told = ", ".join(f"{len(batch['input_ids'])} held-out rows of {n} tokens" for n, batch in batches)
        return lambda session, form: onnx_benchmark.pretraining(session, batches, form), told
    read = finetuning.read_task(ml_collections.ConfigDict(config), vocabulary)
    if not read.judged:
        raise command.UserError(f"the data of {run} have nothing to judge on: leave --workdir out")
    finetuning.check_rows(read, config, run)
    split = read.judged[0]
    told = f"{read.name}, {split}, {len(read.splits[split].lengths):,} rows"
    return lambda session, form: onnx_benchmark.task(session, read, split, form), told


def _heldout(cfg, rows):
    """[(length, the first `rows` of the run's evaluation set)], a row for each example."""
    from bert_tpu.data import corpus_batches

    spec = pretraining.make_batch_spec(cfg)._replace(packed_rows=0)
    share = corpus_batches.load(store.read(cfg.data.dir), "heldout", batch_size=cfg.batch_size)
    whole = -(-rows // cfg.batch_size)
    found = {}
    for seq_len, batch in corpus_batches.heldout(share, spec, min(whole, cfg.eval.num_batches)):
        found.setdefault(seq_len, []).append(batch)
    return [
        (seq_len, {key: np.concatenate([each[key] for each in batches])[:rows] for key in batches[0]})
        for seq_len, batches in found.items()
    ]
