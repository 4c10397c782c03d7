"""A plan as the JSON object that `bert-tpu plan --json` prints."""

from typing import Any

from bert_tpu.hardware import chips
from bert_tpu.planning import plan as plans

# Keys of a length's figures in as_json, null if the step does not fit.
FIGURES = (
    "gflops", "mcycles", "collective_mib", "links_ms", "links_exposed_ms", "step_ms_low", "step_ms_scheduled",
    "step_ms_high", "uncosted",
)  # fmt: skip


def as_json(name: str, plan: plans.Plan) -> dict[str, Any]:
    """The plan as `bert-tpu plan --json` prints it. name: of the config.

    hbm_gib, gflops and mcycles are of one chip and one step (mcycles of one core on v3); collective_mib are the buffers
    that one device exchanges. Figures are null if the step does not fit.
    """
    pairs = {"hours": plan.hours, "cost": plan.cost, "kwh": plan.kwh, "kgco2e": plan.kgco2e}
    ranges = {f"{key}_{end}": pair and pair[i] for key, pair in pairs.items() for i, end in enumerate(("low", "high"))}
    return {
        "config": name,
        "topology": plan.topology.name,
        "chips": plan.topology.chips,
        "seconds_to_plan": plan.seconds_to_plan,
        "lengths": {str(n): _length_json(plan.topology.chip, length) for n, length in plan.lengths.items()},
        **_ramp_json(plan),
        **ranges,
        "hours_scheduled": plan.hours_scheduled,
    }


def _ramp_json(plan: plans.Plan) -> dict[str, Any]:
    """The steps of the batch ramp; a plan without one has no such key."""
    stages = [
        {"batch_size": stage.batch_size, "seq_len": stage.seq_len, "steps": stage.steps}
        | _length_json(plan.topology.chip, stage.length)
        for stage in plan.ramp
    ]
    return {"ramp": stages} if stages else {}


def _length_json(chip: chips.Chip, length: plans.LengthPlan) -> dict[str, Any]:
    program, times, cost = length.program, length.times, length.program.cost
    content = {"fits": program.fits, "hbm_gib": chip.devices * program.used_bytes / chips.GIB}
    if times is None or cost is None or program.flops is None:
        return content | dict.fromkeys(FIGURES)
    return content | {
        # The compiler counts what is in a loop once, as the parts of an accumulation.
        "gflops": None if cost.loops else chip.devices * program.flops / 1e9,
        "mcycles": cost.cycles / 1e6,
        "collective_mib": sum(size for _, size, _ in length.exchanges.values()) / 2**20,
        "links_ms": times.links * 1e3,
        "links_exposed_ms": times.exposed * 1e3,
        "step_ms_low": times.low * 1e3,
        "step_ms_scheduled": times.scheduled * 1e3,
        "step_ms_high": times.high * 1e3,
        "uncosted": {kind: part.runs for kind, part in cost.uncosted.items()},
    }
