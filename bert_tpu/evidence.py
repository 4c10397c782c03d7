"""What a run measured of itself, gathered from its workdir for the model card; absent where there is nothing."""

import statistics
from typing import NamedTuple

from etils import epath

from bert_tpu import command, corpus, energy, lines, versions, workdir


class Evidence(NamedTuple):
    """Of one workdir. Parts that it does not hold are empty or None."""

    config: dict
    lines: list[dict]  # metrics.jsonl's
    heldout: dict[int, dict]  # sequence length -> the last evaluation's line
    examples_per_s: dict[int, float]  # sequence length -> median of the training lines
    hours: dict  # hours.json, of a run before 2026-11 without "unit_seconds"
    energy: energy.Energy | None
    versions: list[dict]  # as versions.read has them
    lock: corpus.Lock | None  # where the corpus still lies at the config's data.dir, unchanged


def read(directory, config) -> Evidence:
    """Of the workdir `directory`, whose config.json is `config`."""
    directory = epath.Path(directory)
    metrics = lines.read(directory / "metrics.jsonl")
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
        hours=hours,
        energy=energy.measured(hours["unit_seconds"], **prices) if "unit_seconds" in hours and prices else None,
        versions=versions.read(directory),
        lock=_lock(config),
    )


def _lock(config):
    if "corpus" not in config:
        return None
    try:
        lock = corpus.read(config["data"]["dir"])
    except command.UserError:  # moved or gone since: the hash is all that is known
        return None
    return lock if lock.sha256 == config["corpus"]["sha256"] else None
