"""What a run measured of itself, gathered from its workdir for the model card; absent where there is nothing."""

import statistics
from typing import NamedTuple

from etils import epath

from bert_tpu.core import command, jsonl
from bert_tpu.corpus import store
from bert_tpu.hardware import energy
from bert_tpu.monitoring import versions
from bert_tpu.training import workdir


class Skips(NamedTuple):
    """Steps of a run up to its last training line, those of several seeds added up."""

    steps: int  # of each seed
    seeds: int
    skipped: int
    recomputed: int

    def __str__(self):
        """Returns the skipped steps in words."""
        whole = f"{self.seeds} x {self.steps:,}" if self.seeds > 1 else f"{self.steps:,}"
        return f"{self.skipped:,} of {whole}" if self.skipped else f"none of {whole}"


class Evidence(NamedTuple):
    """Of one workdir. Parts that it does not hold are empty or None."""

    config: dict
    lines: list[dict]  # metrics.jsonl's
    heldout: dict[int, dict]  # sequence length -> the last evaluation's line
    examples_per_s: dict[int, float]  # sequence length -> median of the training lines
    skips: Skips | None  # None where the lines do not count skipped steps
    hours: dict  # hours.json, of a run before 2026-11 without "unit_seconds"
    energy: energy.Energy | None
    versions: list[dict]  # as versions.read has them
    lock: store.Lock | None  # where the corpus still lies at the config's data.dir, unchanged


def read(directory, config) -> Evidence:
    """Of the workdir `directory`, whose config.json is `config`."""
    directory = epath.Path(directory)
    metrics = jsonl.read(directory / "metrics.jsonl")
    by_length = {}
    for line in metrics:
        if line.get("kind") == "train" and "examples_per_sec" in line:
            by_length.setdefault(line["seq_len"], []).append(line["examples_per_sec"])
    hours = workdir.read_json(directory / "hours.json")
    prices = {key: config["plan"][key] for key in ("pue", "kgco2e_per_kwh")} if "plan" in config else None
    return Evidence(
        config=config,
        lines=metrics,
        heldout={line["seq_len"]: line for line in metrics if line.get("kind") == "eval" and "mlm_loss" in line},
        examples_per_s={n: statistics.median(rates) for n, rates in sorted(by_length.items())},
        skips=_skips(metrics, config),
        hours=hours,
        energy=energy.from_seconds(hours["unit_seconds"], **prices) if "unit_seconds" in hours and prices else None,
        versions=versions.read(directory),
        lock=_lock(config),
    )


def _skips(metrics, config):
    training = [line for line in metrics if line.get("kind") == "train"]
    if not training or not all("skipped" in line for line in training):
        return None
    skipped, recomputed = (round(sum(line.get(key, 0) for line in training)) for key in ("skipped", "recomputed"))
    return Skips(max(line["step"] for line in training), len(config.get("seeds", ())) or 1, skipped, recomputed)


def _lock(config):
    if "corpus" not in config:
        return None
    try:
        lock = store.read(config["data"]["dir"])
    except command.UserError:  # moved or gone since: the hash is all that is known
        return None
    return lock if lock.sha256 == config["corpus"]["sha256"] else None
