"""Plans a run for TPUs that are not present: memory, time, cost and energy. All times are estimates.

bert-tpu plan --config bert:medium --topology v5e:4x4 [--json] [--max-batch] [--config.x.y=z]

Compiles the training step with XLA:TPU, which needs the extra `plan` but no corpus. This takes minutes, with progress
on stderr.
"""

from collections.abc import Iterator, Sequence
import importlib.metadata
import json

from bert_tpu.core import command

with command.imports():
    from bert_tpu.hardware import chips
    from bert_tpu.planning import largest_batch, plan, plan_json
    from bert_tpu.pretrain import pretraining

LABEL = 44  # columns


def main() -> None:
    """Prints one plan."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--topology", required=True, help=f"GENERATION:CHIPSxCHIPS, such as {', '.join(chips.NAMES)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--max-batch", action="store_true", help="only find the largest batch_size that fits")
    args = pretraining.parse(parser)
    topology = chips.find(args.topology)
    if args.max_batch:
        batch, reason = largest_batch.find(args.config, topology)
        result = {"config": args.config_name, "topology": topology.name, "max_batch": batch}
        print(json.dumps(result) if args.json else f"largest batch_size on {topology.name}: {batch:,} ({reason})")
        return
    run_plan = plan.make(args.config, topology)
    print(json.dumps(plan_json.as_json(args.config_name, run_plan)) if args.json else table(args.config_name, run_plan))


def table(name: str, run_plan: plan.Plan) -> str:
    """Returns a plan as a table. name: of the config."""
    topology, lengths = run_plan.topology, run_plan.lengths
    device = "core" if topology.chip.devices > 1 else "chip"
    version = importlib.metadata.version("libtpu")
    rows = f"{run_plan.batch_size:,} rows, {run_plan.batch_size // topology.devices:,} a {device}"
    head = [
        f"{name} on {topology.name}: {topology.chips} x {topology.chip.kind}, {rows}",
        f"Nothing has run. Memory and cycles are those that XLA:TPU (libtpu {version}) reports for the compiled step.",
        "Times, and all figures computed from them, are ESTIMATES from documented speeds.",
        "",
        _line("", *(f"{stage.seq_len} tokens, ramp {stage.batch_size}" for stage in run_plan.ramp),
              *(f"{n} tokens" for n in lengths)),
    ]  # fmt: skip
    full, packed = run_plan.batch_size, run_plan.packed_rows
    cells = [
        _cells(topology, stage.length, packed.get(stage.seq_len, full) * stage.batch_size // full)
        for stage in run_plan.ramp
    ]
    cells += [_cells(topology, length_plan, packed.get(n, full)) for n, length_plan in lengths.items()]
    labels = list(dict.fromkeys(label for column in cells for label in column))
    body = [_line(label, *(column.get(label, "-") for column in cells)) for label in labels]
    return "\n".join([*head, *body, "", *_uncosted(lengths), *_totals(run_plan)])


def _line(label: str, *values: str) -> str:
    return f"{label:<{LABEL}}" + "".join(f"{value:>22}" for value in values)


def _cells(topology: chips.Slice, length_plan: plan.LengthPlan, rows: int) -> dict[str, str]:
    """Returns label -> text of one length's column. rows: of a step"""
    program, times, chip, gib = length_plan.program, length_plan.times, topology.chip, 1 / chips.GIB
    spare = (program.limit_bytes - program.used_bytes) * gib
    unit = "core" if chip.devices > 1 else "chip"
    cells = {
        "fits": f"yes, {spare:.2f} GiB left" if program.fits else f"NO, {-spare:.2f} GiB short",
        f"HBM of a {unit}, GiB": f"{program.used_bytes * gib:.2f} of {program.limit_bytes * gib:.2f}",
    }
    memory, cost, flops = program.memory, program.cost, program.flops
    if times is None or memory is None or cost is None or flops is None:  # it does not fit
        return cells
    parts = {
        "parameters": memory.params, "optimizer": memory.opt, "activations, gradients, copies": memory.temporaries,
        "program, batch": memory.program + memory.rest,
    }  # fmt: skip
    counted, formula = flops * topology.devices, length_plan.formula_flops
    # The compiler counts what is in a loop once, as the parts of an accumulation.
    as_counted = "-" if cost.loops else f"{counted / topology.chips / 1e9:.1f} ({counted / formula - 1:+.1%})"
    cells |= {f"  {label}": f"{size * gib:.3f}" for label, size in parts.items()} | {
        "GFLOP of a chip, model's products": f"{formula / topology.chips / 1e9:.1f}",
        "  as the compiler counts, elementwise too": as_counted,
        f"M cycles executed by a {unit}": f"{cost.cycles / 1e6:.2f}",
    }
    for kind, (runs, size, seconds) in sorted(length_plan.exchanges.items()):
        cells[f"{kind}, MiB (how many), ms on links"] = f"{size / 2**20:.1f} ({runs}), {seconds * 1e3:.2f}"
    return cells | {
        "step, ms: products at peak FLOP/s": f"{times.products * 1e3:.2f}",
        "  HBM: the state read and written once": f"{times.hbm * 1e3:.2f}",
        f"  cycles at {chip.clock_hz / 1e9:.2f} GHz": f"{times.cycles * 1e3:.2f}",
        "  collectives on the links": f"{times.links * 1e3:.2f}",
        "    while the chip computes, while it waits": f"{times.hidden * 1e3:.2f}, {times.exposed * 1e3:.2f}",
        "  instructions without a figure, through HBM": f"{times.uncosted * 1e3:.2f}",
        "  ESTIMATE, all at once .. one by one": f"{times.low * 1e3:.2f} .. {times.high * 1e3:.2f}",
        "  ESTIMATE by the compiler's schedule": f"{times.scheduled * 1e3:.2f}",
        "    if reduce-scatters use one direction": f"{times.scheduled_one_way * 1e3:.2f}",
        "rows/s, ESTIMATE": f"{rows / times.high:,.0f} .. {rows / times.low:,.0f}",
    }


def _uncosted(lengths: dict[int, plan.LengthPlan]) -> Iterator[str]:
    for n, length_plan in lengths.items():
        cost = length_plan.program.cost
        if cost is None:  # it does not fit
            continue
        yield f"without a figure at {n}: " + ", ".join(f"{kind} x {part.runs}" for kind, part in cost.uncosted.items())
        if cost.loops:
            yield f"  loops at {n}: " + ", ".join(f"{body} x {trips}" for body, trips in cost.loops)


def _totals(run_plan: plan.Plan) -> list[str]:
    """Returns the lines of the schedule's totals."""
    ramp = [f"{stage.steps:,} steps of {stage.batch_size:,} rows at {stage.seq_len}" for stage in run_plan.ramp]
    steps = ", ".join([*ramp, *(f"{count:,} steps at {n}" for n, count in run_plan.steps.items())])
    hours, scheduled, chip_hours, cost, kwh, kgco2e = (
        run_plan.hours, run_plan.hours_scheduled, run_plan.chip_hours, run_plan.cost, run_plan.kwh, run_plan.kgco2e
    )  # fmt: skip
    if hours is None or scheduled is None or chip_hours is None:
        return ["", f"{steps}: does not fit; --max-batch finds the largest batch that does"]
    topology = run_plan.topology
    chip = topology.chip
    rows = [_line("cost", "-") + f"   set your price: --config.plan.price.{topology.generation}=DOLLARS"]
    if cost is not None:
        rows = [_line("cost", _range(cost)) + f"   at {run_plan.price:.2f} a chip-hour"]
    if chip.watts is None or kwh is None or kgco2e is None:
        rows.append(_line("kWh", "-") + f"   the watts of {chip.kind} are not published")
    else:
        source = "measured" if chip.watts_measured else "the fleet's mean .. an estimated maximum"
        watts = f"{chip.watts[0]:.0f} .. {chip.watts[1]:.0f} W a chip ({source})"
        rows += [
            _line("kWh", _range(kwh)) + f"   {watts}, without hosts, PUE {run_plan.pue}",
            _line("kg CO2e", _range(kgco2e)) + f"   at {run_plan.kgco2e_per_kwh} kg/kWh",
        ]
    return [
        "",
        f"{steps}, ESTIMATE from all at once to one by one (no evaluation, checkpoint or restart in it):",
        _line("hours", _range(hours)) + f"   {_number(scheduled)} by the compiler's schedule",
        _line("chip-hours", _range(chip_hours)),
        *rows,
        f"planned in {run_plan.seconds_to_plan:.0f} s",
    ]


def _range(pair: Sequence[float]) -> str:
    return " .. ".join(map(_number, pair))


def _number(value: float) -> str:
    return f"{value:,.1f}" if value >= 10 else f"{value:.2g}"


if __name__ == "__main__":
    command.run(main)
