"""Tables of differences between losses at equal compute, with intervals over paired seeds."""

from collections.abc import Iterator, Sequence
import math

import numpy as np

from bert_tpu.recipes import cells, collected, experiment, gain, runs


def _difference(
    base: runs.Run, run: runs.Run, results: collected.Results, length: str, places: Sequence[int]
) -> list[str]:
    """Returns cells: the loss of `run`, by how much it is above that of `base`, and the interval over paired seeds.

    places: of the seeds of `run` among those of `base`
    """
    values = collected.losses(run, results, length)
    more = values - collected.losses(base, results, length)[places]
    if not np.isfinite(more).all():
        return [cells.mean_and_deviation(values), "", ""]
    low, high, _ = gain.mean_interval(more)
    bounds = "needs two seeds" if math.isnan(low) else f"{low:+.4f} .. {high:+.4f}"
    return [cells.mean_and_deviation(values), f"{np.mean(more):+.4f}", bounds]


def differences(plan: experiment.Experiment, full: Sequence[runs.Run], results: collected.Results) -> Iterator[str]:
    """Yields a table of each arm's loss less that of each reference, at equal compute. full: runs at the horizons"""
    by_place = {(run.arm, run.horizon): run for run in full if collected.lines_of(run, results)}
    rows = [
        [
            run.arm,
            reference,
            f"{run.horizon:.3g}",
            cells.label(length),
            *_difference(base, run, results, length, range(len(plan.seeds))),
        ]
        for reference in plan.references
        for run in by_place.values()
        if run.arm != reference and (base := by_place.get((reference, run.horizon)))
        for length in collected.lengths_of(results)
    ]
    if rows:
        yield "Differences at equal compute: below 0 an arm is better than its reference."
        yield ""
        yield from cells.table(["arm", "reference", "horizon", "loss", "MLM loss", "difference", "95% by t"], rows)


def levers(plan: experiment.Experiment, finals: Sequence[runs.Run], results: collected.Results) -> Iterator[str]:
    """Yields a table of the runs that leave a lever out. finals: runs at the horizons, and these"""
    base = [
        run for run in finals if (run.arm, run.kind, run.horizon) == (plan.leave_out_arm, runs.FULL, plan.horizons[-1])
    ]
    rows, places = [], [plan.seeds.index(seed) for seed in plan.leave_out_seeds]
    for run in finals:
        if (
            run.kind != runs.LEAVE_OUT
            or not collected.lines_of(run, results)
            or not collected.lines_of(base[0], results)
        ):
            continue
        for length in collected.lengths_of(results):
            more = _difference(base[0], run, results, length, places)
            rows.append([run.label, f"{run.flops / base[0].flops:.3f}", cells.label(length), *more])
    if rows:
        yield (
            f"{plan.leave_out_arm} at {plan.horizons[-1]:.3g} FLOPs with one lever left out; a higher loss means "
            "that the lever helps."
        )
        yield ""
        yield from cells.table(
            ["left out", "FLOPs / all levers'", "loss", "MLM loss", "more than with it", "95% by t"], rows
        )
