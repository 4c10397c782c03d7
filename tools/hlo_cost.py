"""Prints the cycles, loops and exchanges of optimized TPU programs.

python -m tools.hlo_cost PROGRAM.hlo... [--top N]      files with the text of compiled.as_text()
"""

import argparse
import pathlib

from bert_tpu.core import command
from bert_tpu.planning import cost


def main():
    """Prints the cost of each file."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=pathlib.Path)
    parser.add_argument("--top", type=int, default=0, metavar="N", help="show the N dearest operations of the source")
    args = parser.parse_args()
    for path in args.files:
        try:
            found = cost.program_cost(path.read_text())
        except ValueError as fault:
            raise command.UserError(f"{path}: {fault}") from fault
        print(f"{path}: {found.cycles / 1e6:.3f} M cycles executed, {found.text_cycles / 1e6:.3f} M in the text")
        for body, times in found.loops:
            print(f"  loop {body} x {times}")
        for each in found.collectives:
            print(f"  {each.kind} of {each.nbytes / 2**20:.2f} MiB over {each.group} devices x {each.runs}")
        for kind, each in found.uncosted.items():
            print(f"  no figure: {kind} x {each.runs}, {each.nbytes / 2**20:.2f} MiB")
        for name, cycles in found.names.most_common(args.top):
            print(f"  {cycles / 1e6:8.3f} M  {name}")


if __name__ == "__main__":
    command.run(main)
