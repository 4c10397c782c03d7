"""Prints a script with which a shell completes the names and options of all commands.

bert-tpu completion bash > ~/.local/share/bash-completion/completions/bert-tpu

For zsh, write it to a file _bert-tpu in a folder of $fpath. Print it again after an update.
"""

import argparse
import importlib
import sys

from bert_tpu.cli import contents
from bert_tpu.core import command

SHELLS = ("bash", "zsh", "tcsh")


class _KnownOptionsError(Exception):
    """Ends a command as soon as it has all its options, which are those of `parser`."""

    def __init__(self, parser: argparse.ArgumentParser):
        super().__init__()
        self.parser = parser


class _Asking(command.Parser):
    """A parser that ends its command instead of reading the command line."""

    def parse_known_args(self, args=None, namespace=None):
        """Raises _KnownOptionsError."""
        raise _KnownOptionsError(self)


def options_of(entry: contents.Entry) -> argparse.ArgumentParser:
    """Returns the parser of a command, which imports its module and begins its `main`."""
    name = entry.module if entry.module.count(".") > 1 else f"{entry.module}.__main__"
    module, own = importlib.import_module(name), command.Parser
    command.Parser, sys.argv[1:] = _Asking, []  # type: ignore[misc]
    try:
        module.main()
    except _KnownOptionsError as known:
        return known.parser
    finally:
        command.Parser = own  # type: ignore[misc]
    raise AssertionError(f"{entry.name} reads no command line")


def all_options() -> argparse.ArgumentParser:
    """Returns one parser that has each command as a sub-command."""
    parser = argparse.ArgumentParser(prog=contents.PROGRAM)
    commands = parser.add_subparsers(metavar="COMMAND")
    for entry in contents.ENTRIES:
        if entry.name != "completion":
            commands.add_parser(entry.name, help=entry.purpose, parents=[options_of(entry)], add_help=False)
    commands.add_parser("completion", help="print this script").add_argument("shell", choices=SHELLS)
    return parser


def main() -> None:
    """Prints the script."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("shell", choices=SHELLS)
    args = parser.parse_args()
    command.require("completion", "shtab", extra="completion")
    import shtab

    print(shtab.complete(all_options(), args.shell))


if __name__ == "__main__":
    command.run(main)
