"""Prints the cycles, loops and collectives of optimized TPU programs.

bert-tpu hlo-cost PROGRAM.hlo... [--top N]

A file has the text that `compiled.as_text()` of JAX returns.
"""

import pathlib

from bert_tpu.core import command

with command.imports():
    from bert_tpu.planning import cost


def main() -> None:
    """Prints the cost of each file."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("files", nargs="+", type=pathlib.Path, metavar="FILE", help="optimized HLO of a program")
    parser.add_argument(
        "--top", type=int, default=0, metavar="N", help="print the N source operations with most cycles"
    )
    args = parser.parse_args()
    for path in args.files:
        try:
            program = cost.program_cost(path.read_text())
        except ValueError as error:
            raise command.UserError(f"{path}: {error}; give the optimized HLO text of a compiled program") from error
        print(f"{path}: {program.cycles / 1e6:.3f} M cycles executed, {program.text_cycles / 1e6:.3f} M in the text")
        for body, times in program.loops:
            print(f"  loop {body} x {times}")
        for part in program.collectives:
            print(f"  {part.kind} of {part.nbytes / 2**20:.2f} MiB over {part.group} devices x {part.runs}")
        for kind, instructions in program.uncosted.items():
            print(f"  no figure: {kind} x {instructions.runs}, {instructions.nbytes / 2**20:.2f} MiB")
        for name, cycles in program.names.most_common(args.top):
            print(f"  {cycles / 1e6:8.3f} M  {name}")


if __name__ == "__main__":
    command.run(main)
