"""Describes a comparison of recipes: arms, horizons, seeds and choices. experiment_file reads it from a file."""

from collections.abc import Iterator, Mapping
import itertools
import pathlib
from typing import Any, NamedTuple

import ml_collections

from bert_tpu.core import command, config
from bert_tpu.huggingface import pretrained

Keys = Mapping[str, Any]  # dotted keys of a config, with values as in TOML
SAVES, LINES = 20, 10  # checkpoints and lines of the log in a run, unless [keys] has others


class Arm(NamedTuple):
    """A recipe, with all that is still to be chosen."""

    name: str
    keys: dict[str, Any]
    choices: dict[str, list[Any]]  # key -> values
    horizons: tuple[float, ...]

    def trials(self) -> Iterator[dict[str, Any]]:
        """Yields the keys of each combination of the choices."""
        for values in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, values, strict=True))


class Tuning(NamedTuple):
    """How the choices are made: by trials with this compute in FLOPs, and these seeds."""

    horizon: float
    seeds: tuple[int, ...]


class LeaveOut(NamedTuple):
    """The runs of an arm that leave a lever out each. levers: name -> keys that are as without the arm"""

    arm: str
    levers: dict[str, tuple[str, ...]]
    seeds: tuple[int, ...]


class Experiment(NamedTuple):
    """A checked file. Configs are made by `make_config`, which checks the values of keys."""

    path: pathlib.Path
    config: str
    seeds: tuple[int, ...]
    horizons: tuple[float, ...]  # of the arms that have none of their own
    references: tuple[str, ...]
    at_once: int
    keys: dict[str, Any]
    arms: dict[str, Arm]
    tuning: Tuning | None
    leave_out: LeaveOut | None

    def make_config(self, keys: Keys, num_steps: int) -> ml_collections.ConfigDict:
        """Returns the config of a run with an arm's `keys`. Raises UserError for a wrong key or value."""
        services = {
            "log.to": [], "nonfinite.stop_after": 0, "checkpoint.keep_last": 1, "checkpoint.keep_every": 0,
            "checkpoint.every_steps": max(1, num_steps // SAVES), "log.every_steps": max(1, num_steps // LINES),
        }  # fmt: skip
        changed = services | self.keys | dict(keys) | {"num_steps": num_steps, "eval.every_steps": num_steps}
        words = [f"{config.FLAG}{key}={_text(value)}" for key, value in changed.items()]
        try:
            return pretrained.with_sizes(config.load_changed(self.config, words))
        except command.UserError as error:
            raise command.UserError(f"{self.path}: {error}") from None

    def reference(self) -> ml_collections.ConfigDict:
        """Returns the config of the held-out rows: that of the file with [keys], of its own number of steps."""
        steps = config.load(self.config).num_steps
        return self.make_config({}, steps)


def _text(value: Any) -> str:
    """Returns a value as the command line has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(map(str, value)) or "()"
    return str(value)
