"""Tables of differences between losses, with intervals over paired seeds."""

from collections.abc import Callable, Iterator, Sequence
import math
from typing import NamedTuple

import numpy as np

from bert_tpu.recipes import cells, collected, experiment, gain, runs

HEAD = ["arm", "reference", "FLOPs", "reference's FLOPs", "rows", "MLM loss", "difference", "95% by t"]
EQUAL = 0.01  # numbers of steps, and of token slots, that differ by this share count as equal


class Difference(NamedTuple):
    """By how much a run's losses are above those of another run with the same seeds.

    losses: of the run, [seeds]
    mean, interval: of the difference; not a number if a seed diverged
    """

    losses: np.ndarray
    mean: float
    interval: gain.Interval

    def as_cells(self) -> list[str]:
        """Returns the loss, the difference and its interval as the last three cells under HEAD."""
        if math.isnan(self.mean):
            is_own = not np.isfinite(self.losses).all()
            return [cells.mean_and_deviation(self.losses), "" if is_own else "none: the other run diverged", ""]
        low, high = self.interval
        bounds = "needs two seeds" if math.isnan(low) else f"{low:+.4f} .. {high:+.4f}"
        return [cells.mean_and_deviation(self.losses), f"{self.mean:+.4f}", bounds]

    def bound(self, ratio: float) -> str:
        """Returns what the difference says about the gain in compute, "" if its interval has 0 in it.

        ratio: of the other run's compute to that of the run
        """
        low, high = self.interval
        # Rounded outwards: 1.4993 is no gain above 1.50.
        down, up = math.floor(100 * ratio) / 100, math.ceil(100 * ratio) / 100
        return f"above {down:.2f}" if high < 0 else f"below {up:.2f}" if low > 0 else ""


def _difference(
    base: runs.Run, run: runs.Run, results: collected.Results, length: str, places: Sequence[int] | None = None
) -> Difference:
    """Returns the difference of two runs. places: of the seeds of `run` among those of `base`, if it has fewer"""
    losses, base_losses = collected.losses(run, results, length), collected.losses(base, results, length)
    base_losses = base_losses if places is None else base_losses[places]
    if not (np.isfinite(losses).all() and np.isfinite(base_losses).all()):
        return Difference(losses, math.nan, gain.Interval(math.nan, math.nan))
    excess_S = losses - base_losses
    return Difference(losses, float(np.mean(excess_S)), gain.mean_interval(excess_S))


def at_equal_compute(
    plan: experiment.Experiment, horizon_runs: Sequence[runs.Run], results: collected.Results
) -> Iterator[str]:
    """Yields a table of each arm's loss less that of each reference at its horizon, and at larger ones.

    It bounds the gain without a curve: if an arm is better than a reference that spent N times its compute, the gain is
    above N. horizon_runs: runs at the horizons
    """
    rows = list(_rows(plan, horizon_runs, results, lambda base, run: base.horizon >= run.horizon))
    if rows:
        yield (
            "Differences at equal compute, and to references that spent more: below 0 an arm is better than its "
            "reference. `gain` follows without a curve, if the reference's loss falls with compute."
        )
        yield ""
        yield from cells.table([*HEAD, "gain"], rows)


def at_equal_steps(
    plan: experiment.Experiment, horizon_runs: Sequence[runs.Run], results: collected.Results
) -> Iterator[str]:
    """Yields a table of runs at different horizons with equal steps, as with a teacher, whose forward counts."""

    def are_equal(base: runs.Run, run: runs.Run) -> bool:
        shares = run.cfg.num_steps / base.cfg.num_steps, run.token_slots / base.token_slots
        return base.horizon != run.horizon and all(abs(share - 1) <= EQUAL for share in shares)

    rows = [row[:-1] for row in _rows(plan, horizon_runs, results, are_equal)]
    if rows:
        yield "Differences at equal steps: below 0 an arm is better than its reference."
        yield ""
        yield from cells.table(HEAD, rows)


def _rows(
    plan: experiment.Experiment, horizon_runs: Sequence[runs.Run], results: collected.Results,
    are_paired: Callable[[runs.Run, runs.Run], bool],
) -> Iterator[list[str]]:  # fmt: skip
    """Yields the cells under HEAD and "gain". are_paired: of a reference's run and another arm's"""
    found = [run for run in horizon_runs if collected.results_of(run, results)]
    for reference in plan.references:
        for run in found:
            for base in found:
                if base.arm == reference != run.arm and are_paired(base, run):
                    for length in collected.lengths_of(results):
                        difference = _difference(base, run, results, length)
                        place = [f"{run.horizon:.3g}", f"{base.horizon:.3g}", cells.label(length)]
                        yield [
                            run.arm,
                            reference,
                            *place,
                            *difference.as_cells(),
                            difference.bound(base.flops / run.flops),
                        ]


def levers(plan: experiment.Experiment, finals: Sequence[runs.Run], results: collected.Results) -> Iterator[str]:
    """Yields a table of the runs that leave a lever out. finals: runs at the horizons, and these"""
    if not plan.leave_out:
        return
    arm = plan.leave_out.arm
    base = [run for run in finals if (run.arm, run.kind, run.horizon) == (arm, runs.AT_HORIZON, plan.horizons[-1])]
    rows, places = [], [plan.seeds.index(seed) for seed in plan.leave_out.seeds]
    for run in finals:
        if (
            run.kind != runs.LEAVE_OUT
            or not collected.results_of(run, results)
            or not collected.results_of(base[0], results)
        ):
            continue
        for length in collected.lengths_of(results):
            difference = _difference(base[0], run, results, length, places)
            rows.append([run.label, f"{run.flops / base[0].flops:.3f}", cells.label(length), *difference.as_cells()])
    if rows:
        yield (
            f"{arm} at {plan.horizons[-1]:.3g} FLOPs with one lever left out; a higher loss means that the lever helps."
        )
        yield ""
        yield from cells.table(
            ["left out", "FLOPs / all levers'", "loss", "MLM loss", "more than with it", "95% by t"], rows
        )
