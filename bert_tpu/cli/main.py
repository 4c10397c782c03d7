"""Starts the command that the first word after bert-tpu names, or prints the list of commands."""

import runpy
import sys

import bert_tpu
from bert_tpu.cli import contents
from bert_tpu.core import command


def main() -> None:
    """Runs a command as `python -m MODULE` would, with its name in help and messages.

    It imports nothing but the command, so that the list appears at once.
    """
    entry: contents.Entry | None = None

    def choose() -> None:
        nonlocal entry
        words = sys.argv[1:]
        if words[:1] == ["help"]:
            words = [*words[1:2], "--help"]
        if not words or words[0] in ("-h", "--help"):
            print(contents.page())
        elif words[0] in ("-V", "--version"):
            print(f"{contents.PROGRAM} {bert_tpu.__version__}")
        else:
            entry = contents.find(words[0])
            sys.argv[1:] = words[1:]

    command.run(choose)
    if entry:
        command.set_name(f"{contents.PROGRAM} {entry.name}")
        runpy.run_module(entry.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
