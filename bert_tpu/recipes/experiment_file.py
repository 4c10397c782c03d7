"""Reads a file that says which recipes to compare: arms, horizons, seeds and choices. The file is TOML.

config = "bert:micro"                  # the config that all runs change
seeds = [0, 1, 2]
horizons = [2e14, 6e14, 1.8e15]        # FLOPs of a run's matrix products; its steps follow
references = ["original"]              # arms that the others are compared with; the first arm if left out
at_once = 1                            # seeds that train in one program; 1 if left out

[keys]                                 # for every run, and for the held-out rows
data.dir = "corpus"

[arms.original]
optim.warmup_steps = 0
optim.warmup_share = 0.01              # of a run's steps

[arms.tuned]
optim.learning_rate = [1e-3, 2e-3]     # a choice, made once, at tuning.horizon
horizons = [2e14, 6e14]                # of this arm; those of the file if left out

[tuning]
horizon = 2e14
seeds = [10]

[leave_out]                            # ablations: `arm` at the largest horizon without the keys of a lever
arm = "tuned"
levers.rate = ["optim.learning_rate"]
seeds = [0]                            # some of `seeds`; all if left out
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
import difflib
import os
import pathlib
import re
import tomllib
from typing import Any

import ml_collections

from bert_tpu.core import command, config
from bert_tpu.recipes.experiment import Arm, Experiment, LeaveOut, Tuning

# Keys that the comparison sets itself -> what to do instead.
OWN = {
    "seed": "`seeds` names the seeds",
    "num_steps": "`horizons` gives the FLOPs of a run, and its steps follow",
    "eval.every_steps": "a run is evaluated at its end only",
}
COMMON = {"data.dir": "put it into [keys]", "eval.num_batches": "put it into [keys]"}  # all arms must have the same
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
TOP = {
    "config": str, "seeds": list, "horizons": list, "references": list, "at_once": int, "keys": dict, "arms": dict,
    "tuning": dict, "leave_out": dict,
}  # fmt: skip


def read(path: str | os.PathLike) -> Experiment:
    """Reads and checks a file. Raises UserError for anything that it does not understand."""
    path = pathlib.Path(path)
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except UnicodeDecodeError:
        raise command.UserError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise command.UserError(f"{path} is not valid TOML: {error}; correct the file") from None
    _check_table(path, "the file", content, TOP, required=("config", "seeds", "horizons", "arms"))
    base = config.load(content["config"], config.PRETRAINING)
    keys = _flatten(path, "keys", content.get("keys", {}), OWN)
    if not content["arms"]:
        raise command.UserError(f"{path} has no arms: add a table [arms.NAME] for each recipe")
    horizons = _horizons(path, "horizons", content["horizons"])
    arms = {name: _arm(path, name, table, base, horizons) for name, table in content["arms"].items()}
    at_once = content.get("at_once", 1)
    if at_once < 1:
        raise command.UserError(f"{path}: at_once is {at_once}: give 1 or more seeds that train in one program")
    seeds = _seeds(path, "seeds", content["seeds"])
    return Experiment(
        path=path, config=content["config"], seeds=seeds, horizons=horizons,
        references=_references(path, content.get("references") or [next(iter(arms))], arms), at_once=at_once,
        keys=keys, arms=arms, tuning=_tuning(path, content.get("tuning"), arms.values()),
        leave_out=_leave_out(path, content.get("leave_out"), arms, seeds, horizons[-1]),
    )  # fmt: skip


def _references(path: pathlib.Path, names: Sequence[Any], arms: Collection[str]) -> tuple[str, ...]:
    for name in names:
        _check_known(path, f"references names {name}, and no arm has that name", name, arms)
        if names.count(name) > 1:
            raise command.UserError(f"{path}: references names {name} {names.count(name)} times: name each arm once")
    return tuple(names)


def _horizons(path: pathlib.Path, place: str, horizons: Any) -> tuple[float, ...]:
    is_list = isinstance(horizons, list) and bool(horizons)
    are_numbers = is_list and all(type(x) in (int, float) and 0 < x < float("inf") for x in horizons)
    if not (are_numbers and horizons == sorted(set(horizons))):
        raise command.UserError(f"{path}: {place} is {horizons}: give FLOPs in ascending order, such as [2e14, 6e14]")
    return tuple(map(float, horizons))


def _check_known(path: pathlib.Path, fault: str, name: Any, known: Collection[str]) -> None:
    """Raises UserError with `fault` and a hint if a name is not one of `known`."""
    if not isinstance(name, str) or name not in known:
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}"
        raise command.UserError(f"{path}: {fault}: {hint}")


def _check_table(
    path: pathlib.Path, place: str, table: Mapping[str, Any], kinds: Mapping[str, type], required: Collection[str]
) -> None:
    """Raises UserError for the first key of a table that is unknown, missing or of another type."""
    names = {str: "text in quotes", list: "a list in [ ]", int: "a whole number", float: "a number", dict: "a table"}
    for key, value in table.items():
        _check_known(path, f"{place} has an unknown key, {key}", key, kinds)
        kind = (int, float) if kinds[key] is float else kinds[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            raise command.UserError(f"{path}: {key} of {place} is {value!r}: give {names[kinds[key]]}")
    for key in required:
        if key not in table:
            raise command.UserError(f"{path}: {place} lacks {key}: add it")


def _seeds(path: pathlib.Path, place: str, seeds: Sequence[Any]) -> tuple[int, ...]:
    is_sound = all(type(seed) is int and 0 <= seed < 2**31 - 1 for seed in seeds)
    if not (seeds and is_sound and len(set(seeds)) == len(seeds)):
        raise command.UserError(f"{path}: {place} is {seeds}: give different whole numbers from 0, such as [0, 1, 2]")
    return tuple(seeds)


def _flatten(path: pathlib.Path, place: str, table: Mapping[str, Any], refused: Mapping[str, str]) -> dict[str, Any]:
    """Returns a nested table as dotted keys. Raises UserError for those in `refused`, key -> what to do instead."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            inner = {f"{key}.{name}": item for name, item in value.items()}
            flat |= _flatten(path, place, inner, refused)
        else:
            flat[key] = value
    for key in (key for key in flat if key in refused):  # the first one in the file
        raise command.UserError(f"{path}: {place} has {key}, but {refused[key]}")
    return flat


def _arm(
    path: pathlib.Path, name: str, table: Any, base: ml_collections.ConfigDict, horizons: tuple[float, ...]
) -> Arm:
    if not NAME.fullmatch(name):
        raise command.UserError(f"{path}: the arm {name!r} needs a name of letters, digits, _ and -, for a folder")
    if not isinstance(table, dict):
        raise command.UserError(f"{path}: arms.{name} is {table!r}: give a table of keys, [arms.{name}]")
    if "horizons" in table:
        horizons = _horizons(path, f"horizons of arms.{name}", table["horizons"])
    flat = _flatten(path, f"arms.{name}", {key: table[key] for key in table if key != "horizons"}, OWN | COMMON)
    keys, choices = {}, {}
    for key, value in flat.items():
        if _is_choice(base, key, value):
            if not value:
                raise command.UserError(f"{path}: arms.{name} chooses {key} from no values: list one or more")
            choices[key] = value
        else:
            keys[key] = value
    return Arm(name, keys, choices, horizons)


def _is_choice(base: ml_collections.ConfigDict, key: str, value: Any) -> bool:
    """Returns whether a list is a choice: a list where the key has a single value, or a list of lists."""
    if not isinstance(value, list):
        return False
    current: Any = base
    for part in key.split("."):
        current = current.get(part) if isinstance(current, ml_collections.ConfigDict) else None
    return not isinstance(current, tuple) or (bool(value) and all(isinstance(item, list) for item in value))


def _tuning(path: pathlib.Path, table: Mapping[str, Any] | None, arms: Iterable[Arm]) -> Tuning | None:
    choices = [(arm.name, key) for arm in arms for key in arm.choices]
    if table is None:
        if choices:
            name, key = choices[0]
            raise command.UserError(
                f"{path}: arms.{name} has a choice, {key}, and there is no table [tuning]: add one with horizon and "
                "seeds"
            )
        return None
    _check_table(path, "tuning", table, {"horizon": float, "seeds": list}, required=("horizon", "seeds"))
    if not 0 < table["horizon"] < float("inf"):
        raise command.UserError(f"{path}: tuning.horizon is {table['horizon']}: give FLOPs above 0, such as 2e14")
    return Tuning(float(table["horizon"]), _seeds(path, "tuning.seeds", table["seeds"]))


def _leave_out(
    path: pathlib.Path,
    table: Mapping[str, Any] | None,
    arms: Mapping[str, Arm],
    seeds: tuple[int, ...],
    largest: float,
) -> LeaveOut | None:
    if table is None:
        return None
    kinds = {"arm": str, "levers": dict, "seeds": list}
    _check_table(path, "leave_out", table, kinds, required=("arm", "levers"))
    own_seeds = _seeds(path, "leave_out.seeds", table.get("seeds", seeds))
    if not set(own_seeds) <= set(seeds):
        raise command.UserError(f"{path}: leave_out.seeds is {list(own_seeds)}: give some of seeds, {list(seeds)}")
    _check_known(path, f"leave_out.arm is {table['arm']}, and no arm has that name", table["arm"], arms)
    arm, levers = arms[table["arm"]], {}
    if largest not in arm.horizons:
        raise command.UserError(
            f"{path}: leave_out.arm is {arm.name}, which has no run at the largest horizon of the file, {largest:.4g}: "
            f"add it to the horizons of arms.{arm.name}"
        )
    for name, keys in table["levers"].items():
        place = f"leave_out.levers.{name}"
        if not isinstance(keys, list) or not keys or not NAME.fullmatch(name):
            raise command.UserError(f"{path}: {place} is {keys!r}: give a list of keys of arms.{arm.name}")
        for key in keys:
            fault = f"{place} names {key}, which arms.{arm.name} does not set"
            _check_known(path, fault, key, {**arm.keys, **arm.choices})
        levers[name] = tuple(keys)
    return LeaveOut(arm.name, levers, own_seeds)
