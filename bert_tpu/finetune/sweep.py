"""Runs several fine-tunings one after another, each as a command with its own workdir, and collects their scores."""

from collections.abc import Sequence
import json
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any, NamedTuple

import jax

from bert_tpu.core import command, config, storage
from bert_tpu.finetune import finetuning
from bert_tpu.huggingface import pretrained
from bert_tpu.monitoring import scores_file
from bert_tpu.training import workdir

REQUEST = "asked.json"  # in the workdir of a finished fine-tuning: the config before the run added to it


class Setting(NamedTuple):
    """One point of a grid search."""

    batch_size: int
    learning_rate: float
    epochs: float

    @property
    def folder(self) -> str:
        """Name of its workdir."""
        return f"batch{self.batch_size}-rate{self.learning_rate:g}-epochs{self.epochs:g}"

    def flags(self) -> list[str]:
        """The setting as words of a command line."""
        return [
            f"{config.FLAG}{key}={value}"
            for key, value in (
                ("batch_size", self.batch_size), ("optim.learning_rate", self.learning_rate), ("epochs", self.epochs),
            )
        ]  # fmt: skip


# Devlin et al. (2019), appendix A.3.
GRID = tuple(Setting(b, r, float(e)) for b in (16, 32) for r in (5e-5, 3e-5, 2e-5) for e in (2, 3, 4))


class Result(NamedTuple):
    """A finished fine-tuning."""

    workdir: Path
    config: dict[str, Any]  # its config.json
    seeds: dict[str, dict[str, Any]]  # seed -> split -> metric -> score
    summary: dict[str, dict[str, Any]]  # split -> metric -> as evaluation.summary returns; the main ones first

    @property
    def main(self) -> float:
        """Mean of the first metric of the first scored split."""
        return next(iter(next(iter(self.summary.values())).values()))["mean"]


def tune(name: str, directory: Path | str, words: Sequence[str]) -> Result:
    """Fine-tunes, unless `directory` already has the result. It compares the config, not the files that it names: see
    finetuning.check_rows and check_start.

    If the fine-tuning fails or is stopped, this process exits with its exit code. Raises UserError if nothing was
    scored.

    name: file and variant of a config
    directory: the workdir
    words: --config.KEY=VALUE, ...
    """
    directory = Path(directory)
    if not is_done(name, directory, words):
        _run(["--config", name, "--workdir", str(directory), *words])
        storage.write_text(directory / REQUEST, json.dumps(_request(name, words), indent=1) + "\n")
    content = scores_file.read(directory)
    if not content.get("summary"):
        raise command.UserError(
            f"{directory} has no scores: the data have no labelled split except train; add one to config.data"
        )
    return Result(directory, workdir.read_config(directory), content["seeds"], content["summary"])


def start_sha256(model: str) -> str:
    """Returns finetuning.start_sha256 of a model. Takes no accelerator, because the fine-tunings need them all."""
    jax.config.update("jax_platforms", "cpu")
    return finetuning.start_sha256(pretrained.load(model))


def seeds_flag(number: int) -> str:
    """Returns the command line's word for the seeds 0 to `number` - 1."""
    return f"{config.FLAG}seeds={','.join(map(str, range(number)))}"


def is_done(name: str, directory: Path | str, words: Sequence[str]) -> bool:
    """Returns whether `tune` has finished this in `directory`."""
    path = Path(directory) / REQUEST
    try:
        return path.exists() and config.current(json.loads(path.read_text())) == _request(name, words)
    except ValueError:  # a damaged file: the workdir knows how far it is
        return False


def _request(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Returns the config as JSON stores it."""
    return json.loads(json.dumps(config.load_changed(name, words).to_dict()))


def _run(words: Sequence[str]) -> None:
    child = subprocess.Popen([sys.executable, "-m", "bert_tpu.finetune", *words])
    command.wait_for(child.wait, child.terminate)
    if code := child.returncode:
        sys.exit(code if code > 0 else 128 - code)


def search_grid(name: str, directory: Path | str, words: Sequence[str]) -> Result:
    """Runs all of GRID below `directory` and returns the result with the best main score.

    It keeps the scores and predictions of all settings, but checkpoints, which take gigabytes, only of the best one.
    Arguments are those of `tune`.
    """
    best: Result | None = None
    for setting in GRID:
        result = tune(name, Path(directory) / setting.folder, [*words, *setting.flags()])
        worse, best = (best, result) if best is None or result.main > best.main else (result, best)
        if worse:
            shutil.rmtree(worse.workdir / "checkpoints", ignore_errors=True)
    assert best is not None
    return best
