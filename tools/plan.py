"""What a run would need on TPUs that are not there: memory, time, money, energy. Of the times all are estimates.

python -m tools.plan --config configs/bert.py:medium --topology v5e:4x4 [--json] [--max-batch] [--config.x.y=z]

Compiles the step that trains with XLA:TPU (the extra `plan`); needs no corpus. Minutes, with progress on stderr.
"""

import argparse
import importlib.metadata
import json

from bert_tpu.core import command
from bert_tpu.hardware import chips
from bert_tpu.planning import plan
from bert_tpu.pretrain import pretraining

LABEL = 44  # columns


def main():
    """Prints one plan."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--topology", required=True, help=f"GENERATION:CHIPSxCHIPS, such as {', '.join(chips.NAMES)}")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--max-batch", action="store_true", help="find the largest batch_size that fits")
    args = pretraining.parse(parser)
    where = chips.find(args.topology)
    if args.max_batch:
        batch, reason = plan.largest_batch(args.config, where)
        said = {"config": args.config_name, "topology": where.name, "max_batch": batch}
        print(json.dumps(said) if args.json else f"largest batch_size on {where.name}: {batch:,} ({reason})")
        return
    made = plan.make(args.config, where)
    print(json.dumps(plan.as_json(args.config_name, made)) if args.json else table(args.config_name, made))


def table(name, made) -> str:
    """A plan to read."""
    where, lengths = made.where, made.lengths
    device = "core" if where.chip.devices > 1 else "chip"
    version = importlib.metadata.version("libtpu")
    rows = f"{made.batch_size:,} rows, {made.batch_size // where.devices:,} a {device}"
    head = [
        f"{name} on {where.name}: {where.chips} x {where.chip.kind}, {rows}",
        f"Nothing has run. Memory and cycles: what XLA:TPU (libtpu {version}) says of the compiled step.",
        "Times and all that follows from them: ESTIMATES from documented speeds.",
        "",
        _line("", *(f"{n} tokens" for n in lengths)),
    ]
    cells = [_cells(where, one, made.batch_size) for one in lengths.values()]
    labels = list(dict.fromkeys(label for column in cells for label in column))
    body = [_line(label, *(column.get(label, "-") for column in cells)) for label in labels]
    return "\n".join([*head, *body, "", *_uncosted(lengths), *_whole(made)])


def _line(label, *values):
    return f"{label:<{LABEL}}" + "".join(f"{value:>22}" for value in values)


def _cells(where, one, batch_size):
    """Label -> text, of one length's column."""
    program, chip, gib = one.program, where.chip, 1 / chips.GIB
    spare = (program.limit_bytes - program.used_bytes) * gib
    unit = "core" if chip.devices > 1 else "chip"
    cells = {
        "fits": f"yes, {spare:.2f} GiB left" if program.fits else f"NO, {-spare:.2f} GiB short",
        f"HBM of a {unit}, GiB": f"{program.used_bytes * gib:.2f} of {program.limit_bytes * gib:.2f}",
    }
    if not program.fits:
        return cells
    memory, times = program.memory, one.times
    parts = {
        "parameters": memory.params, "optimizer": memory.opt, "activations, gradients, copies": memory.temporaries,
        "program, batch": memory.program + memory.rest,
    }  # fmt: skip
    counted, formula = program.flops * where.devices, one.formula_flops
    cells |= {f"  {label}": f"{size * gib:.3f}" for label, size in parts.items()} | {
        "GFLOP of a chip, model's products": f"{formula / where.chips / 1e9:.1f}",
        "  as the compiler counts, elementwise too": f"{counted / where.chips / 1e9:.1f} ({_more(counted, formula)})",
        f"M cycles executed by a {unit}": f"{program.cost.cycles / 1e6:.2f}",
    }
    for kind, (runs, size, seconds) in sorted(one.exchanges.items()):
        cells[f"{kind}, MiB (how many), ms on links"] = f"{size / 2**20:.1f} ({runs}), {seconds * 1e3:.2f}"
    return cells | {
        "step, ms: products at peak FLOP/s": f"{times.products * 1e3:.2f}",
        "  HBM: the state read and written once": f"{times.hbm * 1e3:.2f}",
        f"  cycles at {chip.clock_hz / 1e9:.2f} GHz": f"{times.cycles * 1e3:.2f}",
        "  collectives on the links": f"{times.links * 1e3:.2f}",
        "  what has no figure, through HBM": f"{times.uncosted * 1e3:.2f}",
        "  ESTIMATE, all at once .. one by one": f"{times.low * 1e3:.2f} .. {times.high * 1e3:.2f}",
        "examples/s, ESTIMATE": f"{batch_size / times.high:,.0f} .. {batch_size / times.low:,.0f}",
    }


def _more(counted, formula):
    return f"{counted / formula - 1:+.1%}"


def _uncosted(lengths):
    for n, one in lengths.items():
        if one.program.fits:
            said = ", ".join(f"{kind} x {each.runs}" for kind, each in one.program.cost.uncosted.items())
            yield f"without a figure at {n}: {said}"
        if one.program.fits and one.program.cost.loops:
            yield f"  loops at {n}: " + ", ".join(f"{body} x {trips}" for body, trips in one.program.cost.loops)


def _whole(made):
    """The schedule's sums."""
    steps = ", ".join(f"{count:,} steps at {n}" for n, count in made.steps.items())
    if made.hours is None:
        return ["", f"{steps}: does not fit; --max-batch finds the largest batch that does"]
    chip, chip_hours = made.where.chip, tuple(hours * made.where.chips for hours in made.hours)
    source = "measured" if chip.watts_measured else "the fleet's mean .. an estimated maximum"
    watts = f"{chip.watts[0]:.0f} .. {chip.watts[1]:.0f} W a chip ({source})"
    return [
        "",
        f"{steps}, ESTIMATE from all at once to one by one (no evaluation, checkpoint or restart in it):",
        _line("hours", _range(made.hours)),
        _line("chip-hours", _range(chip_hours)),
        _line("cost", _range(made.cost)) + f"   at {made.price:.2f} a chip-hour",
        _line("kWh", _range(made.kwh)) + f"   {watts}, hosts not in, PUE {made.pue}",
        _line("kg CO2e", _range(made.kgco2e)) + f"   at {made.kgco2e_per_kwh} kg/kWh",
        f"planned in {made.seconds_to_plan:.0f} s",
    ]


def _range(pair):
    return " .. ".join(f"{value:,.1f}" if value >= 10 else f"{value:.2g}" for value in pair)


if __name__ == "__main__":
    command.run(main)
