"""What a run would need and cost on a TPU slice: from the compiled step, documented speeds, and the config's prices.

All times, and what follows from them, are ESTIMATES: nothing has run. How they are made is said at `Times` and `Plan`.
"""

import collections
import pathlib
import time
from typing import NamedTuple

from bert_tpu.core import command, config, disk_cache, storage
from bert_tpu.hardware import chips, energy
from bert_tpu.planning import compiler
from bert_tpu.pretrain import pretraining

KEYS = ("price", "pue", "kgco2e_per_kwh")


class Times(NamedTuple):
    """Seconds of one step, each for what one resource of a device must do, and the range that they leave.

    low: the slowest of them, as if all went on at once. high: the compiler's cycles, then all collectives, and last a
    read and a write in HBM of what the instructions without a figure make, one after the other. Neither knows of time
    lost between steps.
    """

    products: float  # the model's FLOPs at the matrix units' peak
    hbm: float  # arguments and results once over, at HBM's documented bandwidth
    cycles: float  # executed cycles, as the compiler estimates them, over the clock
    links: float  # collectives, chips.exchange_s
    uncosted: float

    @property
    def low(self) -> float:
        """Everything overlaps."""
        return max(self[:4])

    @property
    def high(self) -> float:
        """Nothing overlaps."""
        return max(self.products, self.hbm, self.cycles) + self.links + self.uncosted


class LengthPlan(NamedTuple):
    """The step of one sequence length. `times` and `exchanges` are absent where the program does not fit."""

    program: compiler.Program
    formula_flops: float  # of the whole step, flops.train
    times: Times | None
    exchanges: dict[str, tuple[int, int, float]]  # kind -> (instructions run, bytes of their buffers, seconds)


class Plan(NamedTuple):
    """A run on a slice, in pairs of low and high.

    hours: all steps, each at its length's time. kWh: hours x chips x watts x PUE, without the hosts; the low one with
    a chip's usual watts, the high one with its highest; chips.py says which of them are measured.
    """

    where: chips.Slice
    lengths: dict[int, LengthPlan]
    steps: dict[int, int]  # sequence length -> how many
    batch_size: int
    seconds_to_plan: float
    price: float  # of a chip and hour
    pue: float
    kgco2e_per_kwh: float

    @property
    def hours(self) -> tuple[float, float] | None:
        """Least and most hours of the whole schedule; None where a length does not fit."""
        if not all(one.times for one in self.lengths.values()):
            return None
        spent = [(self.steps[n], one.times) for n, one in self.lengths.items()]
        return sum(count * t.low for count, t in spent) / 3600, sum(count * t.high for count, t in spent) / 3600

    @property
    def cost(self) -> tuple[float, float] | None:
        """In the price's currency."""
        return self.hours and tuple(hours * self.where.chips * self.price for hours in self.hours)

    @property
    def kwh(self) -> tuple[float, float] | None:
        """Energy at the data centre's meter."""
        return self._energy and self._energy.kwh

    @property
    def kgco2e(self) -> tuple[float, float] | None:
        """Of the electricity alone."""
        return self._energy and self._energy.kgco2e

    @property
    def _energy(self):
        if self.hours is None:
            return None
        chip_hours = tuple(hours * self.where.chips for hours in self.hours)
        return energy.from_hours(chip_hours, self.where.chip.watts, pue=self.pue, kgco2e_per_kwh=self.kgco2e_per_kwh)


def make(cfg, where) -> Plan:
    """The Plan of a config on a chips.Slice. Compiles the step of each length: minutes, with progress on stderr."""
    begun = time.monotonic()
    _, steps, price = check(cfg, where)
    found = plan_lengths(cfg, where, steps)
    spent = time.monotonic() - begun
    return Plan(where, found, steps, cfg.batch_size, spent, price, cfg.plan.pue, cfg.plan.kgco2e_per_kwh)


def plan_lengths(cfg, where, lens) -> dict[int, LengthPlan]:
    """What the step takes at each of `lens`, all compiled side by side."""
    job, _, _ = check(cfg, where)
    compiler.use_cpu_only()
    with compiler.hide_stderr():
        on = compiler.make_mesh(where)
        pretraining.make_batch_spec(cfg).check_division(where.devices, cfg.accumulate)
        programs = compiler.compile_all(job, on, lens, f"batch {cfg.batch_size} on {where.name}", _answers(cfg))
    return {n: plan_length(where, programs[n], job.flops[n]) for n in lens}


def _answers(cfg):
    """Where the compiler's answers are kept: the same step at another price then takes seconds."""
    here = cfg.compile_cache and not storage.is_bucket(cfg.compile_cache)
    return disk_cache.DiskCache(pathlib.Path(cfg.compile_cache).expanduser() / "plans" if here else None)


def check(cfg, where):
    """The Job of a config, the number of steps by length, and the price of a chip; UserError where one is unsound."""
    job, spec = pretraining.make_job(cfg), pretraining.make_batch_spec(cfg)
    config.check_keys(cfg.plan.price, "config.plan.price", chips.CHIPS)
    price = cfg.plan.price[where.generation]
    if price < 0:
        raise command.UserError(f"config.plan.price.{where.generation} is {price}: give 0 or more")
    return job, {n: spec.before(cfg.num_steps, n) for n in spec.used_lens()}, price


def plan_length(where, program, formula_flops) -> LengthPlan:
    """What one compiled step takes on a slice."""
    if not program.fits:
        return LengthPlan(program, formula_flops, None, {})
    totals = collections.defaultdict(lambda: (0, 0, 0.0))
    for one in program.cost.collectives:
        runs, size, seconds = totals[one.kind]
        each_s = chips.exchange_s(where, one.kind, one.nbytes, one.group)
        totals[one.kind] = runs + one.runs, size + one.runs * one.nbytes, seconds + one.runs * each_s
    chip, memory, cost = where.chip, program.memory, program.cost
    bandwidth = chip.hbm_bytes_per_s / chip.devices
    # What is copied ahead into on-chip memory runs beside the rest and is not waited for.
    waited = sum(each.nbytes for kind, each in cost.uncosted.items() if not kind.endswith("-start"))
    times = Times(
        products=formula_flops / (where.chips * chip.flops),
        hbm=2 * (memory.params + memory.opt) / bandwidth,
        cycles=cost.cycles / chip.clock_hz,
        links=sum(seconds for _, _, seconds in totals.values()),
        uncosted=2 * waited / bandwidth,
    )
    return LengthPlan(program, formula_flops, times, dict(totals))


def as_json(name, plan) -> dict:
    """The plan as `tools.plan --json` prints it; gflops, mcycles, hbm_gib a chip and step, null where nothing fits.

    mcycles: of one core on v3, of the whole chip elsewhere. collective_mib: buffers that one device exchanges.
    """
    pairs = {"hours": plan.hours, "cost": plan.cost, "kwh": plan.kwh, "kgco2e": plan.kgco2e}
    ranges = {f"{key}_{end}": pair and pair[i] for key, pair in pairs.items() for i, end in enumerate(("low", "high"))}
    return {
        "config": name,
        "topology": plan.where.name,
        "chips": plan.where.chips,
        "seconds_to_plan": plan.seconds_to_plan,
        "lengths": {str(n): _length_json(plan.where.chip, one) for n, one in plan.lengths.items()},
        **ranges,
    }


def _length_json(chip, one):
    program, times = one.program, one.times
    fits = program.fits
    return {
        "fits": fits,
        "hbm_gib": chip.devices * program.used_bytes / chips.GIB,
        "gflops": chip.devices * program.flops / 1e9 if fits else None,
        "mcycles": program.cost.cycles / 1e6 if fits else None,
        "collective_mib": sum(size for _, size, _ in one.exchanges.values()) / 2**20 if fits else None,
        "step_ms_low": times.low * 1e3 if fits else None,
        "step_ms_high": times.high * 1e3 if fits else None,
        "uncosted": {kind: each.runs for kind, each in program.cost.uncosted.items()} if fits else None,
    }


def largest_batch(cfg, where) -> tuple[int, str]:
    """The largest batch_size, to 2%, whose step fits at every length, and a sentence on what bounds it.

    The compiler is the oracle, of the longest rows alone: what a step holds grows with its tokens. A refusal comes long
    before the machine code and says what is lacking, so the search comes from above.
    """
    _, steps, _ = check(cfg, where)
    compiler.use_cpu_only()
    unit, longest = where.devices * cfg.accumulate, max(steps)
    with compiler.hide_stderr():
        on = compiler.make_mesh(where)

        def compiled(batch):
            with cfg.unlocked():
                cfg.batch_size = batch
            what = f"batch {batch:,} on {where.name}"
            return compiler.compile_all(pretraining.make_job(cfg), on, (longest,), what, _answers(cfg))[longest]

        row = row_bytes(cfg.model, longest, pretraining.make_batch_spec(cfg).predictions(longest))
        room = where.chip.usable_gib * chips.GIB * where.chips * cfg.accumulate
        return search_batch(compiled, unit, max(1, int(2 * room / row / unit)) * unit)


def row_bytes(model, L, M) -> float:
    """ESTIMATE of what one row of L tokens and M predictions leaves behind for the backward pass.

    Korthikanti et al. 2022, arXiv:2205.05198, equation 1: L D (34 + 5 H L / D) bytes a layer in 16 bits; and the MLM
    head's float32 logits with their gradient.
    """
    D, H = model.hidden_size, model.num_heads
    wide = 2 if model.dtype == "float32" else 1
    return wide * model.num_layers * L * D * (34 + 5 * H * L / D) + 8 * M * model.vocab_size


def search_batch(compiled, unit, first) -> tuple[int, str]:
    """(largest batch that fits, sentence). compiled: batch -> Program. `first` is a multiple of `unit`, as all are."""
    points, fitting, refused, batch = {}, 0, None, first
    while refused is None or refused - fitting > max(unit, fitting // 50):
        program = compiled(batch)
        points[batch] = program.used_bytes
        if program.fits:
            fitting = batch
        else:
            refused = batch
        batch = _guess(points, program.limit_bytes, unit, fitting, refused)
    needed = f"{refused:,} rows would need {points[refused] / chips.GIB:.2f} GiB of a device's HBM"
    return fitting, needed if fitting else f"not even one row a device fits: {needed}"


def _guess(points, limit, unit, fitting, refused):
    """The next batch to try: upward while all fit, then on the line between what fits and what does not."""
    batch = max(points)
    if refused is None:
        return max(2 * batch, int(1.1 * batch * limit / points[batch] / unit) * unit)
    low, used = (fitting, points[fitting]) if fitting else (0, 0)
    batch = low + (refused - low) * max(0, limit - used) / (points[refused] - used)
    # A step away from both at least: then the next answer ends the search, if the line was right.
    step = max(unit, fitting // 50 // unit * unit)
    batch = max(min(int(batch / unit) * unit, refused - step), fitting + step)
    return min(batch, refused - unit)
