"""Gathers a run's measurements from its workdir, for the report and the model card."""

import os
import statistics
from typing import Any, NamedTuple

from etils import epath

from bert_tpu.core import batch_ramp, command, jsonl
from bert_tpu.corpus import store
from bert_tpu.hardware import energy
from bert_tpu.monitoring import health, hours, metrics, versions
from bert_tpu.monitoring.metrics import Metric
from bert_tpu.training import checkpoint_steps


class Skips(NamedTuple):
    """Counts of steps up to the last training line. `skipped` is a sum over the seeds."""

    steps: int  # of each seed
    seeds: int
    skipped: int

    def __str__(self):
        """Returns the skipped steps in words."""
        whole = f"{self.seeds} x {self.steps:,}" if self.seeds > 1 else f"{self.steps:,}"
        return f"{self.skipped:,} of {whole}" if self.skipped else f"none of {whole}"


class Evidence(NamedTuple):
    """Measurements of one workdir. A field is empty or None if the workdir does not have it."""

    config: dict[str, Any]
    lines: list[dict[str, Any]]  # of metrics.jsonl
    heldout: dict[int, dict[str, Any]]  # sequence length -> line of the last evaluation
    examples_per_s: dict[int, float]  # sequence length -> median of the training lines
    skips: Skips | None  # None if the lines do not count skipped steps
    hours: dict[str, Any]  # hours.json; runs before 2026-11 have no "unit_seconds"
    energy: energy.Energy | None
    versions: list[dict[str, Any]]  # the entries of versions.read
    lock: store.Lock | None  # None if data.dir no longer has the same corpus
    metrics: tuple[Metric, ...] = metrics.BEFORE  # of a pretraining's objective
    first_nsp_step: int = 0  # of a pretraining: the steps before it, counted from 0, had no pairs


def read(directory: str | os.PathLike, config: dict[str, Any], step: int | None = None) -> Evidence:
    """The measurements in the workdir `directory`. config: its config.json.

    step: leaves out what was measured after it, and the hours if a later checkpoint has a share of them; None for all
    """
    folder = epath.Path(directory)
    lines = [line for line in jsonl.read(folder / "metrics.jsonl") if step is None or line["step"] <= step]
    facts = health.read(folder)
    names = facts.metrics if facts else metrics.BEFORE
    by_length: dict[int, list[float]] = {}
    for line in lines:
        if line.get("kind") == "train" and "examples_per_sec" in line:
            by_length.setdefault(line["seq_len"], []).append(line["examples_per_sec"])
    times = {} if step is not None and _has_later_checkpoint(folder, step) else hours.read(folder)
    prices = {key: config["plan"][key] for key in ("pue", "kgco2e_per_kwh")} if "plan" in config else None
    return Evidence(
        config=config,
        lines=lines,
        heldout={line["seq_len"]: line for line in lines if line.get("kind") == "eval" and names[0].name in line},
        examples_per_s={n: statistics.median(rates) for n, rates in sorted(by_length.items())},
        skips=_skips(lines, config),
        hours=times,
        energy=energy.from_seconds(times["unit_seconds"], **prices) if "unit_seconds" in times and prices else None,
        versions=[entry for entry in versions.read(folder) if step is None or entry["step"] < max(step, 1)],
        lock=_lock(config),
        metrics=names,
        first_nsp_step=_first_nsp_step(config),
    )


def _first_nsp_step(config: dict[str, Any]) -> int:
    share = config.get("data", {}).get("nsp_share", 1.0)  # runs before 2026-12 have no such key
    if share == 1:
        return 0
    sizes = batch_ramp.BatchSizes(batch_ramp.read(config), config["batch_size"], config["num_steps"])
    return sizes.start_of_last(share)


def _has_later_checkpoint(folder: epath.Path, step: int) -> bool:
    return max(checkpoint_steps.of_workdir(folder), default=0) > step


def _skips(lines: list[dict[str, Any]], config: dict[str, Any]) -> Skips | None:
    training = [line for line in lines if line.get("kind") == "train"]
    if not training or not all("skipped" in line for line in training):
        return None
    skipped = round(sum(line["skipped"] for line in training))
    return Skips(max(line["step"] for line in training), len(config.get("seeds", ())) or 1, skipped)


def _lock(config: dict[str, Any]) -> store.Lock | None:
    if "corpus" not in config:
        return None
    try:
        lock = store.read(config["data"]["dir"])
    except command.UserError:  # the corpus was moved or deleted: only its hash is known
        return None
    return lock if lock.sha256 == config["corpus"]["sha256"] else None
