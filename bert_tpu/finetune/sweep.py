"""Fine-tunings one after another, each a command and a workdir of its own, and what their scores come to."""

import json
from pathlib import Path
import shutil
import signal
import subprocess
import sys
from typing import NamedTuple

from bert_tpu.core import command, config, storage
from bert_tpu.finetune import evaluation
from bert_tpu.training import workdir

ASKED = "asked.json"  # in a workdir whose fine-tuning is done: the config as it was asked for


class Setting(NamedTuple):
    """What a grid varies."""

    batch_size: int
    learning_rate: float
    epochs: float

    @property
    def folder(self) -> str:
        """A name for its workdir."""
        return f"batch{self.batch_size}-rate{self.learning_rate:g}-epochs{self.epochs:g}"

    def words(self) -> list[str]:
        """As a command line has them."""
        return [
            f"{config.FLAG}{key}={value}"
            for key, value in (
                ("batch_size", self.batch_size), ("optim.learning_rate", self.learning_rate), ("epochs", self.epochs),
            )
        ]  # fmt: skip


# Devlin et al. (2019), appendix A.3.
GRID = tuple(Setting(b, r, float(e)) for b in (16, 32) for r in (5e-5, 3e-5, 2e-5) for e in (2, 3, 4))


class Result(NamedTuple):
    """A fine-tuning that is done."""

    workdir: Path
    config: dict  # its config.json
    seeds: dict[str, dict]  # seed -> split -> score's name -> score
    summary: dict[str, dict]  # split -> score's name -> what judge.summary says, the main ones first

    @property
    def main(self) -> float:
        """The mean of the first score of the first judged split."""
        return next(iter(next(iter(self.summary.values())).values()))["mean"]


def tune(name, directory, words) -> Result:
    """Fine-tunes as the config `name`, changed by `words`, says, unless this has been done in `directory` already.

    What the paths hold is not looked at again. Leaves this process with the exit code of a fine-tuning that fails or
    is stopped. Raises UserError where nothing was judged.
    """
    directory = Path(directory)
    if not is_done(name, directory, words):
        _run(["--config", name, "--workdir", str(directory), *words])
        storage.write_text(directory / ASKED, _asked(name, words))
    held = json.loads((directory / evaluation.SCORES).read_text())
    if not held["summary"]:
        raise command.UserError(f"{directory} was judged on nothing: the data have no labelled split beside train")
    return Result(directory, workdir.read_config(directory), held["seeds"], held["summary"])


def seeds(number) -> str:
    """The word of a command line for so many seeds, the same ones each time."""
    return f"{config.FLAG}seeds={','.join(map(str, range(number)))}"


def is_done(name, directory, words) -> bool:
    """Whether `tune` has done this in `directory` already."""
    path = Path(directory) / ASKED
    return path.exists() and path.read_text() == _asked(name, words)


def _asked(name, words):
    return json.dumps(config.load_changed(name, words).to_dict(), indent=1) + "\n"


def _run(words):
    child = subprocess.Popen([sys.executable, "-m", "bert_tpu.finetune", *words])
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    code = None
    while code is None:
        try:
            code = child.wait()
        except KeyboardInterrupt:
            continue  # a terminal has sent it to the child as well, which saves and ends
    signal.signal(signal.SIGTERM, before)
    if code:
        sys.exit(code if code > 0 else 128 - code)


def grid(name, directory, words) -> Result:
    """The best of GRID by the main score, after all of it has been run below `directory`.

    Scores and predictions of all stay there; checkpoints, which take gigabytes, of the best alone.
    """
    best = None
    for setting in GRID:
        result = tune(name, Path(directory) / setting.folder, [*words, *setting.words()])
        worse, best = (best, result) if best is None or result.main > best.main else (result, best)
        if worse:
            shutil.rmtree(worse.workdir / "checkpoints", ignore_errors=True)
    return best
