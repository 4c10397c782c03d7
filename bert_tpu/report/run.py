"""What a run's report tells of, gathered from its workdir."""

import hashlib
from typing import NamedTuple

from etils import epath
import numpy as np

from bert_tpu.core import command, jsonl, storage
from bert_tpu.monitoring import health, versions
from bert_tpu.report import evidence
from bert_tpu.training import nonfinite, workdir

CHECKS = 100  # of a longer run's evaluations so many are looked at for warnings


class DatedWarning(NamedTuple):
    """A warning of health.py, when it was first due, and whether it still is at the run's end."""

    step: int
    holds: bool
    sentence: str


class Run(NamedTuple):
    """One workdir. What it does not hold is empty or None."""

    name: str  # the workdir, without the folders above it
    found: evidence.Evidence
    facts: health.Facts | None
    samples: list[dict]  # samples.jsonl's lines
    scores: dict  # scores.json
    gave_up: dict  # nonfinite.json, where no sound step came after it
    hashes: dict[str, str]  # what -> SHA-256
    checkpoint: int | None  # step of the newest

    @property
    def is_tuning(self) -> bool:
        """Whether it is a fine-tuning's."""
        return "task" in self.found.config

    @property
    def step(self) -> int:
        """The last one that a line tells of."""
        return max(line["step"] for line in self.found.lines)

    @property
    def num_steps(self) -> int | None:
        """How many it is to have."""
        return self.found.config.get("num_steps")

    @property
    def state(self) -> str:
        """One of "finished", "diverged" and "unfinished": whether that one still goes on, nobody can tell."""
        if self.gave_up:
            return "diverged"
        return "finished" if self.num_steps is not None and self.step >= self.num_steps else "unfinished"


def read(directory) -> Run:
    """The run of a pretraining's or a fine-tuning's workdir; UserError where that holds none, or not a line yet."""
    path = epath.Path(directory)
    config = workdir.read_config(path)
    found = evidence.read(path, config)
    for number, line in enumerate(found.lines, 1):
        if not (isinstance(line.get("step"), int) and line.get("kind") in ("train", "eval")):
            raise command.UserError(f"{path}/metrics.jsonl, line {number:,}, is no line of a run: delete it")
    if not found.lines:
        raise command.UserError(
            f"{path} has no line in metrics.jsonl yet: wait for the first, after log.every_steps steps"
        )
    return Run(
        name=storage.absolute(directory).name,
        found=found,
        facts=None if "task" in config else health.read(path) or _facts(found),
        samples=[line for line in jsonl.read(path / "samples.jsonl") if line.get("samples")],
        scores=workdir.read_json(path / "scores.json"),
        gave_up=_gave_up(path, found.lines),
        hashes=_hashes(path, config, found.versions),
        checkpoint=max((int(p.name) for p in path.glob("checkpoints/*") if p.name.isdigit()), default=None),
    )


def warnings(run) -> list[DatedWarning]:
    """What health.check says of the run, as it was due then, in order; and what else hints at a fault."""
    metrics = run.found.lines
    ends = sorted({line["step"] for line in metrics if line["kind"] == "eval"})
    ends = [ends[i] for i in np.unique(np.linspace(0, len(ends) - 1, min(len(ends), CHECKS)).astype(int))]
    first, newest = {}, {}
    for end in sorted({*ends, run.step}) if run.facts else ():
        found = health.check([line for line in metrics if line["step"] <= end], run.facts)
        newest = {warning.name: warning.sentence for warning in found}
        for name, sentence in newest.items():
            first.setdefault(name, (end, sentence))
    told = [DatedWarning(end, name in newest, newest.get(name, then)) for name, (end, then) in first.items()]
    return told + _more(run)


def _more(run):
    """Skipped steps, an end without a finite loss, steps done twice."""
    more = []
    if run.found.skips and run.found.skips.skipped:
        first = min(line["step"] for line in run.found.lines if line.get("skipped"))
        sentence = f"steps without a finite loss or gradient were skipped, {run.found.skips}"
        more.append(DatedWarning(first, True, sentence))
    if run.gave_up:
        first = run.gave_up["steps"][0]["step"]
        more.append(DatedWarning(run.gave_up["steps"][-1]["step"] + 1, True, (
            f"the run gave up: {len(run.gave_up['steps'])} such steps came in a row; --replay {first} shows where it "
            "comes from"
        )))  # fmt: skip
    if lost := run.found.hours.get("lost_steps"):
        sentence = f"{lost:,} steps were done twice, as the run died after its last checkpoint"
        more.append(DatedWarning(run.step, True, sentence))
    return more


def _facts(found):
    """As far as the corpus tells them: of a run before there was health.json."""
    if not found.lock:
        return None
    share, warmup = found.lock.content["train"]["unknown_share"], found.config["optim"]["warmup_steps"]
    return health.Facts(found.lock.unigram_entropy, share, warmup, {})


def _gave_up(path, metrics):
    told = workdir.read_json(path / nonfinite.FILE)
    sound = [line["step"] for line in metrics if line["kind"] == "train" and "loss" in line]
    return {} if not told or max(sound, default=0) > told["steps"][-1]["step"] + 1 else told


def _hashes(path, config, entries):
    found = {
        "corpus": config.get("corpus", {}).get("sha256"),
        "tokenizer": config.get("corpus", {}).get("tokenizer_sha256"),
        "rows trained on": config.get("task", {}).get("sha256", {}).get("train"),
    }
    code = {"code": "; ".join(map(versions.describe, entries))} if entries else {}
    files = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in ("config.json", "metrics.jsonl")}
    return {what: value for what, value in found.items() if value} | files | code
