"""Trains recipes at several horizons of compute and prints how much compute each saves.

bert-tpu compare-recipes recipes.toml --out DIR [--results FILE ...] [--dry-run]

The file names the arms (keys of a config), the horizons in FLOPs and the seeds; docs/tuning_recipes.md shows one. Every
run starts from scratch and has its own full schedule. DIR gets results.jsonl, results.md, results.png and a workdir for
each run. The same command goes on after it was stopped or killed.
--results takes the results.jsonl of other machines; their runs count as finished.
"""

import argparse
import pathlib
import sys

from bert_tpu.core import command

with command.imports():
    from bert_tpu.core import storage
    from bert_tpu.hardware import host_memory
    from bert_tpu.recipes import comparison, config_warnings, experiment_file
    from bert_tpu.training import orbax_setup


def main() -> None:
    """Runs the file's experiment and prints its tables."""
    command.quiet_tensorflow()
    parser = command.Parser(description=__doc__)
    parser.add_argument("file", type=pathlib.Path, metavar="FILE", help="a TOML file that says what to compare")
    parser.add_argument("--out", required=True, type=storage.local, help="directory of the results")
    parser.add_argument(
        "--results", nargs="+", default=[], type=pathlib.Path, metavar="FILE",
        help="results.jsonl of other machines, whose runs count as finished",
    )  # fmt: skip
    parser.add_argument(
        "--dry-run", action="store_true",
        help="check the file and print the runs, without training; nothing is written",
    )  # fmt: skip
    args = parser.parse_args()
    orbax_setup.quiet()
    try:
        sys.exit(_compare(args))
    except command.UserError as error:
        raise command.UserError(config_warnings.as_keys(str(error))) from None


def _compare(args: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    plan, out = experiment_file.read(args.file), pathlib.Path(args.out)
    if args.dry_run:
        print(comparison.outline(plan, out, args.results))
        return 0
    command.require("the plot", "matplotlib", extra="report")
    host_memory.keep_freed_memory()
    code = comparison.compare(plan, out, args.results)
    print((out / comparison.TABLES).read_text(), end="")
    return code


if __name__ == "__main__":
    command.run(main)
