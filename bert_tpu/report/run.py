"""Gathers from a workdir what the HTML report of a run shows."""

import hashlib
import os
from typing import Any, NamedTuple

from etils import epath
import numpy as np

from bert_tpu.core import command, jsonl, numerals, storage
from bert_tpu.monitoring import health, scores_file, versions
from bert_tpu.report import evidence
from bert_tpu.training import checkpoint_steps, nonfinite, optim, workdir

CHECKS = 100  # evaluations at which the health checks are repeated; a longer run's are thinned to as many


class DatedWarning(NamedTuple):
    """A warning, and when it appeared."""

    step: int  # of its first appearance
    persists: bool  # True if it still applies at the run's end
    sentence: str


class Run(NamedTuple):
    """The content of one workdir. A field is empty or None if the workdir does not have it."""

    name: str  # the workdir, without the folders above it
    evidence: evidence.Evidence
    facts: health.Facts | None
    samples: list[dict[str, Any]]  # lines of samples.jsonl
    scores: dict[str, Any]  # scores.json
    gave_up: dict[str, Any]  # nonfinite.json; empty if the run took finite steps after it
    hashes: dict[str, str]  # name -> SHA-256
    checkpoint: int | None  # step of the newest

    @property
    def is_tuning(self) -> bool:
        """True for a fine-tuning, False for a pretraining."""
        return "task" in self.evidence.config

    @property
    def step(self) -> int:
        """The last step in metrics.jsonl."""
        return max(line["step"] for line in self.evidence.lines)

    @property
    def num_steps(self) -> int | None:
        """The number of steps in the config."""
        return self.evidence.config.get("num_steps")

    @property
    def state(self) -> str:
        """One of "finished", "diverged" and "unfinished"; the workdir does not say if an unfinished run is running."""
        if self.gave_up:
            return "diverged"
        ends = [self.step] if self.checkpoint is None or self.scores else [self.step, self.checkpoint]
        return "finished" if self.num_steps is not None and min(ends) >= self.num_steps else "unfinished"


def read(directory: str | os.PathLike) -> Run:
    """Reads the workdir of a pretraining or a fine-tuning. Raises UserError if it has no run, or no metrics yet."""
    path = epath.Path(directory)
    config = workdir.read_config(path)
    records = evidence.read(path, config)
    for number, line in enumerate(records.lines, 1):
        if not (isinstance(line.get("step"), int) and line.get("kind") in ("train", "eval")):
            raise command.UserError(f"{path}/metrics.jsonl: line {number:,} is not a line of a run: delete it")
    if not records.lines:
        raise command.UserError(
            f"{path} has no line in metrics.jsonl yet: wait for the first, after log.every_steps steps"
        )
    return Run(
        name=storage.absolute(directory).name,
        evidence=records,
        facts=None if "task" in config else health.read(path) or _facts_of_corpus(records),
        samples=[line for line in jsonl.read(path / "samples.jsonl") if line.get("samples")],
        scores=scores_file.read(path),
        gave_up=_read_gave_up(path, records.lines),
        hashes=_hashes(path, config, records.versions),
        checkpoint=max(checkpoint_steps.of_workdir(path), default=None),
    )


def warnings(run: Run) -> list[DatedWarning]:
    """Warnings of the health checks in the order of their steps, then signs of other faults.

    Repeats the checks for each evaluation, because the workdir keeps no warnings.
    """
    if run.facts is None:
        return _more(run)
    metrics = run.evidence.lines
    steps = sorted({line["step"] for line in metrics if line["kind"] == "eval"})
    steps = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, min(len(steps), CHECKS)).astype(int))]
    first: dict[str, tuple[int, str]] = {}
    newest: dict[str, str] = {}
    for end in sorted({*steps, run.step}):
        findings = health.check([line for line in metrics if line["step"] <= end], run.facts)
        newest = {finding.name: finding.sentence for finding in findings}
        for name, sentence in newest.items():
            first.setdefault(name, (end, sentence))
    dated = [DatedWarning(step, name in newest, newest.get(name, then)) for name, (step, then) in first.items()]
    return dated + _more(run)


def _more(run: Run) -> list[DatedWarning]:
    """Warnings of skipped steps, of a run that gave up, and of steps done twice."""
    more = []
    if run.evidence.skips and run.evidence.skips.skipped:
        first = min(line["step"] for line in run.evidence.lines if line.get("skipped"))
        sentence = f"steps without a finite loss or gradient were skipped, {run.evidence.skips}"
        more.append(DatedWarning(first, True, sentence))
    if run.gave_up:
        steps = run.gave_up["steps"]
        more.append(DatedWarning(steps[-1]["step"] + 1, True, (
            f"the run gave up after {numerals.count(len(steps), 'such step')} in a row; --replay {steps[0]['step']} "
            "shows which value is not finite"
        )))  # fmt: skip
    if lost := run.evidence.hours.get("lost_steps"):
        sentence = f"steps done twice, because the run died after its last checkpoint: {lost:,}"
        more.append(DatedWarning(run.step, True, sentence))
    return more


def _facts_of_corpus(records: evidence.Evidence) -> health.Facts | None:
    """Facts of a run that wrote no health.json, from its corpus; without the shares of the commoner label."""
    if not records.lock:
        return None
    unknown_share = records.lock.content["train"]["unknown_share"]
    warmup_steps = optim.stored_warmup(records.config).steps
    return health.Facts(records.lock.unigram_entropy, unknown_share, warmup_steps, {})


def _read_gave_up(path: epath.Path, metrics: list[dict[str, Any]]) -> dict[str, Any]:
    content = nonfinite.read(path)
    finite_steps = [line["step"] for line in metrics if line["kind"] == "train" and "loss" in line]
    if not content or max(finite_steps, default=0) > content["steps"][-1]["step"] + 1:
        return {}
    return content


def _hashes(path: epath.Path, config: dict[str, Any], entries: list[dict[str, Any]]) -> dict[str, str]:
    hashes = {
        "corpus": config.get("corpus", {}).get("sha256"),
        "tokenizer": config.get("corpus", {}).get("tokenizer_sha256"),
        "teacher": config.get("distill", {}).get("sha256"),
        "rows trained on": config.get("task", {}).get("sha256", {}).get("train"),
    }
    code = {"code": "; ".join(map(versions.describe, entries))} if entries else {}
    files = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in ("config.json", "metrics.jsonl")}
    return {name: value for name, value in hashes.items() if value} | files | code
