"""Finds the largest batch whose training step fits in the HBM of a TPU slice."""

from collections.abc import Callable, Mapping
import functools
import math

import ml_collections

from bert_tpu.core import batch_ramp
from bert_tpu.hardware import chips
from bert_tpu.planning import compiler, plan
from bert_tpu.pretrain import pretraining


def find(cfg: ml_collections.ConfigDict, topology: chips.Slice) -> tuple[int, str]:
    """The largest batch_size, to 2%, whose step fits at every length, and a sentence with the limit.

    The compiler decides. It compiles the length alone that needs most memory by `row_bytes`, and the other one once, at
    the batch that was found. The search comes from above: the compiler refuses a program, and says how much memory it
    lacks, long before it has generated the machine code of one that fits.
    """
    cfg = batch_ramp.without(cfg)  # its steps are smaller
    lens = plan.check(cfg, topology).steps
    compiler.use_cpu_only()
    parts = pretraining.make_job(cfg).accumulate
    unit = unit_of(cfg, topology.devices, parts)
    with compiler.hide_stderr():
        mesh = compiler.make_mesh(topology)

        def compile_batch(batch: int, n: int) -> compiler.Program:
            sized = batch_ramp.resized(cfg, batch)
            title, answers = f"batch {batch:,} on {topology.name}", plan.compiler_answers(cfg)
            return compiler.compile_all(pretraining.make_job(sized), mesh, (n,), title, answers)[n]

        spec = pretraining.make_batch_spec(cfg)
        needs = {n: spec.rows(n) * row_bytes(cfg.model, n, spec.predictions(n)) / parts[n] for n in lens}
        heaviest, *others = sorted(needs, key=needs.__getitem__, reverse=True)
        room = topology.chip.usable_gib * chips.GIB * topology.chips
        first = max(1, int(2 * room * cfg.batch_size / needs[heaviest] / unit)) * unit
        batch, sentence = search(functools.partial(compile_batch, n=heaviest), unit, first)
        for n in others:
            if batch and not compile_batch(batch, n).fits:
                batch, sentence = search(functools.partial(compile_batch, n=n), unit, batch)
    return batch, sentence


def unit_of(cfg: ml_collections.ConfigDict, devices: int, parts: Mapping[int, int]) -> int:
    """Returns the number that a batch_size must be a multiple of, so that all rows divide over devices and parts.

    cfg: has the proportion of packed rows to batch_size
    parts: sequence length -> number of parts of a batch
    """
    common = math.gcd(cfg.batch_size, cfg.data.packed_rows) or 1
    return devices * math.lcm(*parts.values()) * (cfg.batch_size // common if cfg.data.packed_rows else 1)


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
    """The largest batch that fits, and a sentence with the limit, in examples.

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
    needed = f"{refused:,} examples would need {points[refused] / chips.GIB:.2f} GiB of a device's HBM"
    return fitting, needed if fitting else f"not even the smallest batch fits: {needed}"


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
