"""Tiny pretraining runs, in this process and in other processes."""

import json
import os

from bert_tpu.core import config
from helpers import warm_processes

FILE = "configs/bert.py:micro"
STEPS = 24
KEYS = {
    "model.vocab_size": 400, "model.hidden_size": 32, "model.num_heads": 1, "model.num_layers": 1,
    "model.intermediate_size": 64, "model.max_positions": 32, "model.dtype": "float32",
    "data.seq_lens": (16, 32), "data.max_predictions": (3, 5), "data.schedule": "mixed", "data.long_every": 3,
    "optim.warmup_steps": 5, "optim.learning_rate": 1e-3, "batch_size": 8, "num_steps": STEPS,
    # Neither of the first two divides the other, so a restart falls between two lines of the log.
    "checkpoint.every_steps": 5, "log.every_steps": 4, "checkpoint.keep_last": 99, "eval.every_steps": 12,
    "eval.num_batches": 2, "log.to": (),
}  # fmt: skip


def keys(corpus_dir, tmp_path_factory):
    """Returns a tiny run's config keys. Runs of a session share a cache of compiled programs, as a user's do."""
    session = tmp_path_factory.getbasetemp()
    session = session.parent if "PYTEST_XDIST_WORKER" in os.environ else session
    return KEYS | {"data.dir": str(corpus_dir), "compile_cache": str(session / "compile_cache")}


def configured(values, **changes):
    """Returns the config of FILE with `values` and `changes`, both of which map dotted keys to values."""
    cfg = config.load(FILE)
    cfg.update_from_flattened_dict(values | changes)
    return cfg


def words(values, directory):
    """Returns the same config as arguments of a command, with --workdir."""
    return [f"--config={FILE}", f"--workdir={directory}", *(f"--config.{key}={value}" for key, value in values.items())]


def start(values, directory, **options):
    """Starts a run in another process."""
    return warm_processes.start("bert_tpu.pretrain", words(values, directory), **options)


def metrics(directory, without=()):
    """Returns the lines of metrics.jsonl, without the keys in `without`."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in without} for line in lines]


def steps(directory):
    """Returns the steps that have a checkpoint."""
    return sorted(int(path.name) for path in (directory / "checkpoints").iterdir() if path.name.isdigit())
