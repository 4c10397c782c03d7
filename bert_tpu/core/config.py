"""Configs at the door: read from a file and the command line, and handed on a section at a time."""

import ast
import difflib
import functools
import inspect
import math
import operator
import pathlib
import runpy
import sys

import ml_collections

from bert_tpu.core import command

FLAG = "--config."


def parse(parser, argv=None):
    """The parser's arguments, with `config`: what --config names (`config_name`), changed by each --config.KEY=VALUE.

    Raises UserError for a file, variant, key or value that makes no config.
    """
    changes, rest = split_argv(sys.argv[1:] if argv is None else argv)
    parser.add_argument(
        "--config", required=True, metavar="FILE[:VARIANT]",
        help=f"the config; {FLAG}KEY=VALUE changes any key in it, {FLAG}SECTION.KEY=VALUE one of a section",
    )  # fmt: skip
    args = parser.parse_args(rest)
    args.config_name, args.config = args.config, load_changed(args.config, changes)
    return args


def split_argv(argv) -> tuple[list[str], list[str]]:
    """The words --config.KEY=VALUE of a command line, and the others. UserError for one without a value."""
    changes = [word for word in argv if word.startswith(FLAG)]
    for word in changes:
        if "=" not in word:  # argparse would take the value for a stray word
            raise command.UserError(f"{word} has no value: write {word}=VALUE")
    return changes, [word for word in argv if word not in changes]


def refuse_changes(changes, elsewhere) -> None:
    """Raises UserError for a change of a key that a command sets itself. elsewhere: key -> what to do instead."""
    for word in changes:
        key = word.removeprefix(FLAG).partition("=")[0]
        if key in elsewhere:
            raise command.UserError(f"{word}: {elsewhere[key]}")


def load_changed(name, words) -> ml_collections.ConfigDict:
    """The config that `load` gives for `name`, changed by each word --config.KEY=VALUE; UserError as `parse`."""
    cfg = load(name)
    for word in words:
        _change(cfg, word)
    return cfg


def load(name) -> ml_collections.ConfigDict:
    """The config that `get_config` of FILE returns, called with VARIANT where `name` is FILE:VARIANT."""
    path, _, variant = name.partition(":")
    if not pathlib.Path(path).is_file():
        raise command.UserError(f"no config file {path}: --config takes a file such as configs/bert.py:medium")
    try:
        get_config = runpy.run_path(path)["get_config"]
    except (SyntaxError, KeyError) as error:
        raise command.UserError(f"{path} is no config, a Python file with a function get_config: {error}") from error
    if variant and not inspect.signature(get_config).parameters:
        raise command.UserError(f"{path} has no variants: give --config {path}")
    try:
        return get_config(*[variant] if variant else []).lock()
    except ValueError as error:
        raise command.UserError(error) from error


def _change(cfg, word):
    """Sets one key; its value is read as the type that the config gives it."""
    key, _, text = word.removeprefix(FLAG).partition("=")
    *sections, last = key.split(".")
    section, name = cfg, "config"
    for part in sections:
        _check_key(part, section, name)
        section, name = section[part], f"{name}.{part}"
        if not isinstance(section, ml_collections.ConfigDict):
            raise command.UserError(f"{word}: {name} is a value, not a section; write --{name}=VALUE")
    _check_key(last, section, name)
    kind = type(section[last])
    if section[last] is None:
        raise command.UserError(f"{word}: this config takes {name}.{last} from the model in init_from; leave it out")
    if kind is ml_collections.ConfigDict:
        raise command.UserError(f"{word}: {name}.{last} is a section; write --{name}.{last}.KEY=VALUE")
    read, form = READERS[kind]
    try:
        section[last] = read(text)
    except (ValueError, KeyError, SyntaxError):
        raise command.UserError(f"{word}: give {form}") from None


def _whole_numbers(text):
    numbers = ast.literal_eval(text)
    numbers = tuple(numbers) if isinstance(numbers, (tuple, list)) else (numbers,)
    if not all(type(number) is int for number in numbers):
        raise ValueError
    return numbers


def _number(text):
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


READERS = {
    bool: (lambda text: {"true": True, "false": False}[text.lower()], "true or false"),
    int: (int, "a whole number"),
    float: (_number, "a number"),
    str: (str, "text"),
    tuple: (_whole_numbers, "whole numbers such as 128,512"),
}


def _check_key(key, keys, name):
    if key not in keys:
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {near[0]}?" if near else f"its keys are {', '.join(sorted(keys))}"
        raise command.UserError(f"{name} has no key {key}: {hint}")


def check_keys(section, name, keys, *, optional=()):
    """Raises UserError that names the first left-over or missing key of `section`, which is called `name`."""
    for key in section:
        _check_key(key, {*keys, *optional}, name)
    for key in keys:
        if key not in section:
            raise command.UserError(f"{name} lacks {key}: add it to the config")


def check_minima(cfg, least):
    """Raises UserError for the first value of `cfg` that is no number from that of `least` on: dotted key -> number."""
    for key, number in least.items():
        value = functools.reduce(operator.getitem, key.split("."), cfg)
        if not number <= value < math.inf:
            raise command.UserError(f"config.{key} is {value}: give {number} or more")


def call(function, section, name, /, **given):
    """`function(**section, **given)`: the section `cfg.<name>` is the function's arguments, no more and no fewer.

    Raises UserError that names the first wrong or missing key.
    """
    free = {key: value.default for key, value in inspect.signature(function).parameters.items() if key not in given}
    needed = [key for key, default in free.items() if default is inspect.Parameter.empty]
    check_keys(section, f"config.{name}", needed, optional=free)
    return function(**section, **given)
