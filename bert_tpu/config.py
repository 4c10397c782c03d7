"""Configs at the door: read from the command line, and handed on a section at a time."""

import difflib
import inspect

from absl import flags

from bert_tpu import command


def parse(argv, required):
    """Sets the absl flags from `argv`; what is wrong in it is a UserError."""
    try:
        rest = flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        raise command.UserError(str(error).strip("'\"")) from error
    if rest[1:]:
        raise command.UserError(f"{rest[1]!r} is no flag: write --config.key=value")
    for name in required:
        if flags.FLAGS[name].value is None:
            raise command.UserError(f"--{name} is missing; --help lists the flags")


def call(function, section, name, /, **given):
    """`function(**section, **given)`: the section `cfg.<name>` is the function's arguments, no more and no fewer.

    Raises UserError that names the first wrong or missing key.
    """
    parameters = inspect.signature(function).parameters
    keys = set(parameters) - set(given)
    for key in section:
        if key not in keys:
            near = difflib.get_close_matches(key, keys, n=1)
            hint = f"did you mean {near[0]}?" if near else f"its keys are {', '.join(sorted(keys))}"
            raise command.UserError(f"config.{name} has no key {key}: {hint}")
    for key in sorted(keys):
        if key not in section and parameters[key].default is inspect.Parameter.empty:
            raise command.UserError(f"config.{name} lacks {key}: add it to the config")
    return function(**section, **given)
