"""Estimates the needs and costs of a run on a TPU slice: from the compiled step, documented speeds and prices.

All times, and all figures computed from them, are ESTIMATES: nothing has run. `Times` and `Plan` define them.
"""

import collections
from collections.abc import Callable, Collection, Mapping
import pathlib
import time
from typing import NamedTuple

import ml_collections

from bert_tpu.core import batch_ramp, command, config, disk_cache, storage
from bert_tpu.hardware import chips, energy
from bert_tpu.planning import compiler, schedule
from bert_tpu.planning.cost import Collective
from bert_tpu.pretrain import pretraining
from bert_tpu.training import jobs


class Times(NamedTuple):
    """Seconds that each resource of a device needs for one step, and estimates of the step's time that follow.

    low: the longest of them, as if all worked at once. high: one after the other the compiler's cycles, all
    collectives, and a read and a write in HBM of the results of the instructions without a figure. scheduled: the
    cycles, and the part of the collectives that the program waits for. None counts time lost between steps.
    """

    products: float  # the model's FLOPs at the matrix units' peak
    hbm: float  # one read and one write of the state, at HBM's documented bandwidth
    cycles: float  # executed cycles, as the compiler estimates them, over the clock
    links: float  # collectives, by chips.exchange_s
    exposed: float  # the part of `links` during which the device waits, by schedule.exposed_s
    exposed_one_way: float  # the same if a reduce-scatter is twice as slow, because it uses one direction of a ring
    uncosted: float  # one read and one write of the results of the instructions without a figure

    @property
    def hidden(self) -> float:
        """The part of `links` during which the device computes."""
        return self.links - self.exposed

    @property
    def low(self) -> float:
        """The time of the step if everything overlaps."""
        return max(self.products, self.hbm, self.cycles, self.links)

    @property
    def scheduled(self) -> float:
        """The time of the step if collectives overlap as the compiler has scheduled them."""
        return max(self.products, self.hbm, self.cycles) + self.exposed

    @property
    def scheduled_one_way(self) -> float:
        """The same if reduce-scatters use one direction of their rings, which only hardware tells."""
        return self.scheduled + self.exposed_one_way - self.exposed

    @property
    def high(self) -> float:
        """The time of the step if nothing overlaps."""
        return max(self.products, self.hbm, self.cycles) + self.links + self.uncosted


class LengthPlan(NamedTuple):
    """The step of one sequence length. If it does not fit, `times` is None and `exchanges` is empty."""

    program: compiler.Program
    formula_flops: float  # of the whole step, by the formula of flops.train
    times: Times | None
    exchanges: dict[str, tuple[int, int, float]]  # kind -> (instructions run, bytes of their buffers, seconds)


class StagePlan(NamedTuple):
    """The steps of one sequence length in one stage of a batch ramp."""

    batch_size: int
    seq_len: int
    steps: int
    length: LengthPlan


class Plan(NamedTuple):
    """A run on a slice. Its figures are pairs (low, high), or None if the step does not fit at some length."""

    topology: chips.Slice
    lengths: dict[int, LengthPlan]  # by sequence length
    steps: dict[int, int]  # sequence length -> number of steps with full batches
    batch_size: int
    seconds_to_plan: float
    price: float  # of a chip for an hour; 0: not known
    pue: float
    kgco2e_per_kwh: float
    ramp: tuple[StagePlan, ...] = ()  # the steps with smaller batches
    packed_rows: Mapping[int, int] = {}  # sequence length -> rows of a full batch, where examples share rows

    @property
    def hours(self) -> tuple[float, float] | None:
        """Hours of the whole schedule: the sum of all steps, each at its length's time."""
        low, high = self._hours(lambda times: times.low), self._hours(lambda times: times.high)
        return None if low is None or high is None else (low, high)

    @property
    def hours_scheduled(self) -> float | None:
        """Hours of the whole schedule, each step at its time by the compiler's order of instructions."""
        return self._hours(lambda times: times.scheduled)

    def _hours(self, step_s: Callable[[Times], float]) -> float | None:
        """Hours of the whole schedule; None if the step does not fit at some length. step_s: seconds of one step"""
        parts = [(self.steps[n], length.times) for n, length in self.lengths.items()]
        parts += [(stage.steps, stage.length.times) for stage in self.ramp]
        times = [(steps, times) for steps, times in parts if times is not None]
        return sum(steps * step_s(t) for steps, t in times) / 3600 if len(times) == len(parts) else None

    @property
    def chip_hours(self) -> tuple[float, float] | None:
        """Hours summed over all chips."""
        if self.hours is None:
            return None
        low, high = self.hours
        return low * self.topology.chips, high * self.topology.chips

    @property
    def cost(self) -> tuple[float, float] | None:
        """Cost of the chips, in the price's currency; None without a price."""
        if self.chip_hours is None or not self.price:
            return None
        low, high = self.chip_hours
        return low * self.price, high * self.price

    @property
    def kwh(self) -> tuple[float, float] | None:
        """Energy at the data centre's meter, without the hosts: chip-hours x watts x PUE; None if watts are unknown.

        The low figure has a chip's usual watts, the high one its highest. chips.py says which of them are measured.
        """
        return self._energy and self._energy.kwh

    @property
    def kgco2e(self) -> tuple[float, float] | None:
        """Carbon of the electricity alone, in kg."""
        return self._energy and self._energy.kgco2e

    @property
    def _energy(self) -> energy.Energy | None:
        watts = self.topology.chip.watts
        if self.chip_hours is None or watts is None:
            return None
        return energy.from_hours(self.chip_hours, watts, pue=self.pue, kgco2e_per_kwh=self.kgco2e_per_kwh)


class Inputs(NamedTuple):
    """The parts of a config that a plan needs."""

    job: jobs.Job
    steps: dict[int, int]  # sequence length -> number of steps with full batches
    price: float  # of a chip for an hour
    ramp: dict[tuple[int, int], int]  # (batch size, sequence length) -> number of steps with smaller batches


def make(cfg: ml_collections.ConfigDict, topology: chips.Slice) -> Plan:
    """Plans the run of a config on a slice. It compiles the step of each size: minutes, with progress on stderr."""
    begun = time.monotonic()
    inputs = check(cfg, topology)
    ramp = _plan_ramp(cfg, topology, inputs.ramp)
    lengths = plan_lengths(cfg, topology, inputs.job, inputs.steps)
    spent, spec = time.monotonic() - begun, pretraining.make_batch_spec(cfg)
    return Plan(
        topology, lengths, inputs.steps, cfg.batch_size, spent, inputs.price, cfg.plan.pue, cfg.plan.kgco2e_per_kwh,
        ramp, {n: spec.rows(n) for n in lengths if spec.is_packed(n)},
    )  # fmt: skip


def _plan_ramp(
    cfg: ml_collections.ConfigDict, topology: chips.Slice, ramp: dict[tuple[int, int], int]
) -> tuple[StagePlan, ...]:
    """Plans the steps of a ramp, each as in a run whose full batches are as small. ramp: as in Inputs"""
    plans = []
    for batch_size in dict.fromkeys(rows for rows, _ in ramp):
        stage_cfg = batch_ramp.resized(cfg, batch_size)
        lens = [n for rows, n in ramp if rows == batch_size]
        lengths = plan_lengths(stage_cfg, topology, pretraining.make_job(stage_cfg), lens)
        plans += [StagePlan(batch_size, n, ramp[batch_size, n], length) for n, length in lengths.items()]
    return tuple(plans)


def plan_lengths(
    cfg: ml_collections.ConfigDict, topology: chips.Slice, job: jobs.Job, lens: Collection[int]
) -> dict[int, LengthPlan]:
    """Plans the full step at each of the sequence lengths `lens`, compiled in parallel. job: as `check` returns it."""
    compiler.use_cpu_only()
    with compiler.hide_stderr():
        mesh = compiler.make_mesh(topology)
        pretraining.make_batch_spec(cfg).check_division(topology.devices, {n: job.accumulate[n] for n in lens})
        title = f"batch {cfg.batch_size} on {topology.name}"
        programs = compiler.compile_all(job, mesh, lens, title, compiler_answers(cfg))
    return {n: plan_length(topology, programs[n], job.flops[n]) for n in lens}


def compiler_answers(cfg: ml_collections.ConfigDict) -> disk_cache.DiskCache:
    """The stored answers of the compiler, with which the same step at another price is planned within seconds."""
    is_local = cfg.compile_cache and not storage.is_bucket(cfg.compile_cache)
    return disk_cache.DiskCache(pathlib.Path(cfg.compile_cache).expanduser() / "plans" if is_local else None)


def check(cfg: ml_collections.ConfigDict, topology: chips.Slice) -> Inputs:
    """The inputs of a plan. Raises UserError if a value of the config is wrong."""
    job, spec = pretraining.make_job(cfg), pretraining.make_batch_spec(cfg)
    config.check_keys(cfg.plan.price, "config.plan.price", chips.CHIPS)
    price = cfg.plan.price[topology.generation]
    if price < 0:
        raise command.UserError(f"config.plan.price.{topology.generation} is {price}: give 0 or more")
    steps: dict[int, int] = dict.fromkeys(spec.used_lens(), 0)
    ramp: dict[tuple[int, int], int] = {}
    for stage in spec.stages():
        for n in steps:
            if stage.examples_per_step == cfg.batch_size:
                steps[n] = len(stage.numbers(n))
            elif numbers := stage.numbers(n):
                ramp[stage.examples_per_step, n] = len(numbers)
    # A ramp may have all steps of a length, and a full batch that no run has need not fit.
    return Inputs(job, {n: count for n, count in steps.items() if count}, price, ramp)


def plan_length(topology: chips.Slice, program: compiler.Program, formula_flops: float) -> LengthPlan:
    """Plans one compiled step on a slice. formula_flops: of the whole step, by the formula of flops.train."""
    chip, memory, cost = topology.chip, program.memory, program.cost
    if memory is None or cost is None:
        return LengthPlan(program, formula_flops, None, {})
    totals: dict[str, tuple[int, int, float]] = collections.defaultdict(lambda: (0, 0, 0.0))

    def price(exchange: Collective) -> float:
        return chips.exchange_s(topology, exchange.kind, exchange.nbytes, exchange.group)

    def price_one_way(exchange: Collective) -> float:
        return price(exchange) * (2 if exchange.kind == "reduce-scatter" else 1)

    for exchange in cost.collectives:
        runs, size, seconds = totals[exchange.kind]
        totals[exchange.kind] = (
            runs + exchange.runs,
            size + exchange.runs * exchange.nbytes,
            seconds + exchange.runs * price(exchange),
        )
    bandwidth = chip.hbm_bytes_per_s / chip.devices
    # Copies ahead into on-chip memory run in parallel with other work, which does not wait for them.
    waited = sum(part.nbytes for kind, part in cost.uncosted.items() if not kind.endswith("-start"))
    times = Times(
        products=formula_flops / (topology.chips * chip.flops),
        hbm=2 * (memory.params + memory.opt) / bandwidth,
        cycles=cost.cycles / chip.clock_hz,
        links=sum(seconds for _, _, seconds in totals.values()),
        exposed=schedule.exposed_s(cost.collectives, price, chip.clock_hz),
        exposed_one_way=schedule.exposed_s(cost.collectives, price_one_way, chip.clock_hz),
        uncosted=2 * waited / bandwidth,
    )
    return LengthPlan(program, formula_flops, times, dict(totals))
