"""Gives random inputs to every reader, config key and command, and prints what happened to them.

python -m fuzz [--inputs N] [--seed S] [--only NAME ...], with PYTHONPATH=tests

Exits with 1 if an input ended in a traceback, hung, or was accepted and not reproduced; prints the shortest such input.
"""

import argparse
import logging
import secrets
import sys

from bert_tpu.core import command

command.quiet_tensorflow()  # which the targets import
from fuzz import target, targets  # noqa: E402

COLUMNS = ("accepted", "refused", "traceback", "hang", "not reproduced")


def main() -> None:
    """Runs the targets and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--inputs", type=int, default=10_000, help="inputs of all targets together (default: 10,000)")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="repeats a run (default: random)")
    parser.add_argument("--only", nargs="+", default=[], help="names of targets")
    parser.add_argument("--refusals", type=int, default=0, metavar="N", help="print the N commonest refusals of each")
    args = parser.parse_args()
    logging.disable()  # of the libraries, which warn of damaged inputs
    chosen = [each for each in targets.all_targets() if not args.only or each.name in args.only]
    shares = sum(each.share for each in chosen)
    print(
        f"seed {args.seed}\n{'target':24}{'inputs':>8}"
        + "".join(f"{name:>16}" for name in COLUMNS)
        + f"{'seconds':>10}"
    )
    outcomes = {}
    for each in chosen:
        outcomes[each.name] = outcome = target.run(each, max(1, round(args.inputs * each.share / shares)), args.seed)
        print(_row(each.name, outcome.counts, outcome.seconds), flush=True)
    total = sum((outcome.counts for outcome in outcomes.values()), start=target.collections.Counter())
    print(_row("all", total, sum(outcome.seconds for outcome in outcomes.values())))
    for name, outcome in outcomes.items():
        for ending, count in outcome.refusals.most_common(args.refusals):
            print(f"{name}: {count:,} refused by ...{ending}")
        for place, (shown, trace) in outcome.failures.items():
            print(f"\n{name}: {place}\ninput: {shown[:2000]}\n{trace[-3000:]}")
    sys.exit(any(outcome.failures for outcome in outcomes.values()))


def _row(name: str, counts: dict[str, int], seconds: float) -> str:
    cells = "".join(f"{counts[column]:>16,}" for column in COLUMNS)
    return f"{name:24}{sum(counts[column] for column in COLUMNS):>8,}{cells}{seconds:>10.1f}"


if __name__ == "__main__":
    main()
