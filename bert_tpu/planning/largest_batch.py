"""Finds the largest batch whose training step fits in the HBM of a TPU slice."""

from collections.abc import Callable
import math

import ml_collections

from bert_tpu.core import batch_ramp
from bert_tpu.hardware import chips
from bert_tpu.planning import compiler, plan
from bert_tpu.pretrain import pretraining


def find(cfg: ml_collections.ConfigDict, topology: chips.Slice) -> tuple[int, str]:
    """The largest batch_size, to 2%, whose step fits at every length, and a sentence with the limit.

    The compiler decides. It compiles the longest rows alone, because the memory of a step grows with its tokens. The
    search comes from above: the compiler refuses a program, and says how much memory it lacks, long before it has
    generated the machine code of one that fits.
    """
    cfg = batch_ramp.without(cfg)  # its steps are smaller
    longest = max(plan.check(cfg, topology).steps)
    compiler.use_cpu_only()
    accumulate = pretraining.make_job(cfg).accumulate
    unit = topology.devices * math.lcm(*accumulate.values())
    with compiler.hide_stderr():
        mesh = compiler.make_mesh(topology)

        def compile_batch(batch: int) -> compiler.Program:
            cfg.batch_size = batch
            title, answers = f"batch {batch:,} on {topology.name}", plan.compiler_answers(cfg)
            return compiler.compile_all(pretraining.make_job(cfg), mesh, (longest,), title, answers)[longest]

        row = row_bytes(cfg.model, longest, pretraining.make_batch_spec(cfg).predictions(longest))
        room = topology.chip.usable_gib * chips.GIB * topology.chips * accumulate[longest]
        return search(compile_batch, unit, max(1, int(2 * room / row / unit)) * unit)


def row_bytes(model: ml_collections.ConfigDict, L: int, M: int) -> float:
    """ESTIMATE of the bytes that one row keeps for the backward pass.

    model: the `model` section of the config
    L: tokens of the row
    M: its predictions

    Korthikanti et al. 2022, arXiv:2205.05198, equation 1: L D (34 + 5 H L / D) bytes a layer in 16 bits. The MLM head's
    float32 logits and their gradient come on top.
    """
    D, H = model.hidden_size, model.num_heads
    wide = 2 if model.dtype == "float32" else 1
    return wide * model.num_layers * L * D * (34 + 5 * H * L / D) + 8 * M * model.vocab_size


def search(compile_batch: Callable[[int], compiler.Program], unit: int, first: int) -> tuple[int, str]:
    """The largest batch that fits, and a sentence with the limit.

    compile_batch: batch -> Program
    unit: every batch is a multiple of it
    first: the first batch to try
    """
    points: dict[int, int] = {}  # batch -> bytes
    fitting, refused, batch = 0, None, first
    while refused is None or refused - fitting > max(unit, fitting // 50):
        program = compile_batch(batch)
        points[batch] = program.used_bytes
        if program.fits:
            fitting = batch
        else:
            refused = batch
        batch = _guess(points, program.limit_bytes, unit, fitting, refused)
    needed = f"{refused:,} rows would need {points[refused] / chips.GIB:.2f} GiB of a device's HBM"
    return fitting, needed if fitting else f"not even one row a device fits: {needed}"


def _guess(points: dict[int, int], limit: int, unit: int, fitting: int, refused: int | None) -> int:
    """The next batch to try: upward while all fit, then on the line between a batch that fits and one that does not."""
    batch = max(points)
    if refused is None:
        return max(2 * batch, int(1.1 * batch * limit / points[batch] / unit) * unit)
    low, used = (fitting, points[fitting]) if fitting else (0, 0)
    crossing = low + (refused - low) * max(0, limit - used) / (points[refused] - used)
    # At least a step away from both: if the line is right, the next answer ends the search.
    step = max(unit, fitting // 50 // unit * unit)
    batch = max(min(int(crossing / unit) * unit, refused - step), fitting + step)
    return min(batch, refused - unit)
