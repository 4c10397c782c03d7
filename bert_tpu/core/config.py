"""Reads a config from a file and the command line, checks it, and passes each section to one function."""

import argparse
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
import difflib
import functools
import inspect
import math
import operator
import pathlib
import runpy
import sys
from typing import Any, NamedTuple

import ml_collections

from bert_tpu import configs
from bert_tpu.core import command, config_values

FLAG = "--config."
LARGEST = 2**31 - 1  # steps, rows and sizes are 32-bit numbers in the compiled programs
# Keys of earlier releases -> why they are gone. A config must not have them; a stored one may (`current`).
REMOVED = {
    **dict.fromkeys(("model.softmax", "bert.softmax"), "attention has one form now, which takes any scores"),
    "log.tensorboard": "log.to names the trackers, for example log.to=tensorboard",
}
# Keys that were added after a release -> their values of "off" (as JSON has them): a config without the key means the
# same.
ADDED: dict[str, Any] = {
    "data.final_mask_rate": 0.0, "data.nsp_share": 1.0, "optim.warmup_share": 0.0, "optim.rate_width": 0,
    "distill.teacher": "", "distill.weight": 0.5, "distill.temperature": 1.0,
    "distill.relations": 0.0, "distill.relation_heads": 0,
    "ramp.rows": [], "ramp.steps": 0, "ramp.share": 0.0,
}  # fmt: skip


class Kind(NamedTuple):
    """The configs of one kind of training.

    names: of those that come with the package
    key: a key that only configs of this kind have
    command: the command that trains with them
    """

    names: tuple[str, ...]
    key: str
    command: str


PRETRAINING = Kind(("bert", "fast", "mlm", "demo"), "seed", "pretrain")
TUNING = Kind(("glue", "squad", "ner", "pairs"), "reader", "finetune")
KINDS = PRETRAINING, TUNING


def parse(parser: argparse.ArgumentParser, kind: Kind, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The parser's arguments, and two more: `config_name`, the value of --config, and `config`, the ConfigDict.

    Each --config.KEY=VALUE changes the config. Raises UserError for a wrong file, kind, variant, key or value.
    """
    changes, rest = split_argv(sys.argv[1:] if argv is None else argv)
    parser.add_argument(
        "--config", required=True, metavar="NAME[:VARIANT]",
        help=f"{', '.join(kind.names)}, or a file; {FLAG}KEY=VALUE or {FLAG}SECTION.KEY=VALUE changes a key of it",
    )  # fmt: skip
    args = parser.parse_args(rest)
    args.config_name, args.config = args.config, load_changed(args.config, changes, kind)
    return args


def split_argv(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """(words --config.KEY=VALUE, other words) of a command line. Raises UserError for a key without a value."""
    changes = [word for word in argv if word.startswith(FLAG)]
    for word in changes:
        if "=" not in word:  # argparse would take the value for a positional argument
            raise command.UserError(f"{word} has no value: write {word}=VALUE")
    return changes, [word for word in argv if word not in changes]


def refuse_changes(changes: Iterable[str], reasons: Mapping[str, str]) -> None:
    """Raises UserError for a --config.KEY=VALUE whose key the command sets itself.

    reasons: key -> what the user can do instead
    """
    for word in changes:
        key = word.removeprefix(FLAG).partition("=")[0]
        if key in reasons:
            raise command.UserError(f"{word}: {reasons[key]}")


def load_changed(name: str, changes: Iterable[str], kind: Kind | None = None) -> ml_collections.ConfigDict:
    """The config `name`, as `load` takes it, changed by each --config.KEY=VALUE. Raises UserError as `parse` does."""
    cfg = load(name, kind)
    for word in changes:
        _change(cfg, word)
    return cfg


def load(name: str, kind: Kind | None = None) -> ml_collections.ConfigDict:
    """The config that `get_config` of a file returns; called with VARIANT if `name` ends with :VARIANT.

    Raises UserError if the file is not a config or is one of another kind.

    name: NAME[:VARIANT] of a config that comes with the package (see `names`), or FILE[:VARIANT]
    kind: the kind that the config must be of; None for any
    """
    stem, _, variant = name.partition(":")
    path = _find(stem, kind)
    try:
        get_config = runpy.run_path(str(path))["get_config"]
    except (SyntaxError, KeyError) as error:
        raise command.UserError(
            f"{path} is not a config, which is a Python file with a function get_config: {error}"
        ) from error
    except ModuleNotFoundError as error:
        own = " (those of this package are in bert_tpu.configs)" if error.name == "configs" else ""
        raise command.UserError(
            f"{path} imports {error.name}, which is not installed{own}; correct the file"
        ) from error
    arguments = [variant] if variant else []
    try:
        inspect.signature(get_config).bind(*arguments)
    except TypeError:
        raise command.UserError(
            f"{stem} has no variants: give --config {stem}" if variant
            else f"{stem} needs a variant, the argument of its get_config: give --config {stem}:VARIANT"
        ) from None  # fmt: skip
    try:
        cfg = get_config(*arguments).lock()
    except ValueError as error:
        raise command.UserError(f"--config {name}: {error}") from error
    others = [other for other in KINDS if other.key in cfg]
    if kind and others and kind not in others:
        raise command.UserError(
            f"config {name} is for bert-tpu {others[0].command}: give one of {', '.join(kind.names)}, or a file like "
            "theirs"
        )
    return cfg


def names() -> list[str]:
    """Names of the configs that come with the package."""
    return [name for kind in KINDS for name in kind.names]


def _find(stem: str, kind: Kind | None) -> pathlib.Path:
    """Path of the config file that is given by its name or path. Raises UserError if there is none."""
    if stem in names():
        return pathlib.Path(configs.__path__[0]) / f"{stem}.py"
    path = pathlib.Path(stem)
    if path.is_file():
        return path
    if path.suffix == ".py" and path.stem in names() and path.parent.name == "configs":
        # A path of the repository, typed elsewhere.
        raise command.UserError(f"no config file {stem}: write --config {path.stem}, which is this package's config")
    known = kind.names if kind else names()
    near = difflib.get_close_matches(path.stem, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"give a file, or one of {', '.join(known)}"
    raise command.UserError(f"no config {stem}: {hint}")


def _change(cfg: ml_collections.ConfigDict, word: str) -> None:
    """Sets one key. The value is read as the type that the key has in the config."""
    key, _, text = word.removeprefix(FLAG).partition("=")
    *sections, last = key.split(".")
    section, name = cfg, "config"
    for part in sections:
        _check_key(part, section, name)
        section, name = section[part], f"{name}.{part}"
        if not isinstance(section, ml_collections.ConfigDict):
            raise command.UserError(f"{word}: {name} is a value, not a section; write --{name}=VALUE")
    others = [other for other, value in cfg.items() if isinstance(value, ml_collections.ConfigDict) and last in value]
    _check_key(last, section, name, [f"config.{other}.{last}" for other in others])
    kind = type(section[last])
    if section[last] is None:
        raise command.UserError(f"{word}: the model in init_from sets {name}.{last} here: leave this flag out")
    if kind is ml_collections.ConfigDict:
        raise command.UserError(f"{word}: {name}.{last} is a section; write --{name}.{last}.KEY=VALUE")
    read, form = config_values.reader(section[last])
    try:
        section[last] = read(text)
    except (ValueError, KeyError, SyntaxError):
        raise command.UserError(f"{word}: give {form}") from None


def _check_key(key: str, keys: Collection[str], name: str, meant: Sequence[str] = ()) -> None:
    """Raises UserError if `key` is not among the `keys` of a section. meant: keys of others that may be meant"""
    if reason := REMOVED.get(f"{name}.{key}".removeprefix("config.")):
        raise command.UserError(f"{name}.{key} is gone: {reason}; leave that key out")
    if key not in keys:
        near = meant or difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {' or '.join(near)}?" if near else f"its keys are {', '.join(sorted(keys))}"
        raise command.UserError(f"{name} has no key {key}: {hint}")


def current(stored: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a config as a run has stored it, without the keys of earlier releases that are gone (REMOVED).

    prefix: dotted keys of the sections that hold `stored`, with a dot behind each
    """
    return {
        key: current(value, f"{prefix}{key}.") if isinstance(value, dict) else value
        for key, value in stored.items()
        if prefix + key not in REMOVED
    }


def without_added(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a flat config (dotted keys) without the keys that are ADDED and off: an older release's has none.

    Tuples are as good as lists: a config has them until it is written to a file.
    """

    def is_off(key: str, value: Any) -> bool:
        return key in ADDED and (list(value) if isinstance(value, tuple) else value) == ADDED[key]

    return {key: value for key, value in flat.items() if not is_off(key, value)}


def check_keys(section: Collection[str], name: str, keys: Collection[str], *, optional: Iterable[str] = ()) -> None:
    """Raises UserError for the first key of `section` that is unknown or missing.

    name: of the section in messages, such as config.model
    keys: those that the section must have
    optional: those that it may have
    """
    for key in section:
        _check_key(key, {*keys, *optional}, name)
    for key in keys:
        if key not in section:
            raise command.UserError(f"{name} lacks {key}: add it to the config")


def check_minima(cfg: ml_collections.ConfigDict, minima: Mapping[str, float]) -> None:
    """Raises UserError for the first value that is below its minimum, not finite, or a whole number above LARGEST.

    minima: dotted keys -> minima
    """
    for key, minimum in minima.items():
        value: Any = functools.reduce(operator.getitem, key.split("."), cfg)
        if not minimum <= value < math.inf:
            raise command.UserError(f"config.{key} is {value}: give {minimum} or more")
        if isinstance(value, int) and value > LARGEST:
            raise command.UserError(f"config.{key} is {value}: give at most {LARGEST:,}")


def check_choice(cfg: ml_collections.ConfigDict, key: str, choices: Collection[str]) -> None:
    """Raises UserError if the value of `key` is not among `choices`."""
    if cfg[key] not in choices:
        raise command.UserError(f"config.{key} is {cfg[key]!r}: give one of {', '.join(choices)}")


def call(function: Callable[..., Any], section: ml_collections.ConfigDict, name: str, /, **arguments: Any) -> Any:
    """Returns `function(**section, **arguments)`. The section's keys must be exactly the function's other arguments.

    Raises UserError that names the first unknown or missing key of `config.<name>`.
    """
    parameters = inspect.signature(function).parameters
    free = {key: value.default for key, value in parameters.items() if key not in arguments}
    required = [key for key, default in free.items() if default is inspect.Parameter.empty]
    check_keys(section, f"config.{name}", required, optional=free)
    return function(**section, **arguments)
