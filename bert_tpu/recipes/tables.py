"""The results of an experiment as Markdown tables: spread, trials, losses, gains, and runs without a lever."""

from collections.abc import Iterator, Mapping, Sequence
import math

import numpy as np

from bert_tpu.core import numerals
from bert_tpu.recipes import cells, collected, differences, experiment, gain, progress, runs

TOO_LARGE = 10_000  # from here on numbers have an exponent
FAR = 100  # factor of the compute beyond a reference's horizons
APART = 0.03  # nats: a deviation of seeds on the way off a plateau. After it docs/recipe.md has 0.001 to 0.017


def page(plan: experiment.Experiment, state: progress.Progress) -> str:
    """Returns all tables. Runs that are not finished are missing in them."""
    finals, results, lost = state.decided, state.results, state.diverged_arms
    rest = "".join(
        f" {arm}: no trial has a finite loss, so it has no runs at the horizons."
        if arm in lost
        else f" {arm}: its runs at the horizons follow when its choices are made."
        for arm in plan.arms
        if arm in state.open_arms | lost
    )
    horizon_runs = [run for run in finals if run.kind == runs.AT_HORIZON]
    all_runs = [*state.trials, *finals]
    identities = {identity for run in all_runs for identity in run.identities.values()}
    count = f"{len(identities & results.keys())} of {len(identities)} results are there, one for each run and seed"
    parts = [
        [f"{count} ({plan.path.name}, config {plan.config}).{rest}"],
        list(_spread(plan, horizon_runs, results)),
        list(_trials(plan, state)),
        list(_losses(horizon_runs, results)),
        list(differences.at_equal_compute(plan, horizon_runs, results)),
        list(differences.at_equal_steps(plan, horizon_runs, results)),
        list(_gains(plan, horizon_runs, results)),
        list(differences.levers(plan, finals, results)),
        list(_notes(plan, all_runs, results)),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _spread(plan: experiment.Experiment, horizon_runs: Sequence[runs.Run], results: collected.Results) -> Iterator[str]:
    found = [run for run in horizon_runs if (run.arm, run.horizon) == (plan.references[0], plan.horizons[-1])]
    if not found or len(collected.results_of(largest := found[0], results)) < 2:
        return
    parts = []
    for length in collected.lengths_of(results):
        values = collected.losses(largest, results, length)
        if not np.isfinite(values).all():
            return
        parts.append(f"{np.mean(values):.4f} with a deviation of {np.std(values, ddof=1):.4f} ({cells.label(length)})")
    yield (
        f"Spread of {largest.arm} at {largest.horizon:.3g} FLOPs over {len(values)} seeds: MLM loss "
        f"{', '.join(parts)}. Smaller differences are not shown by single runs."
    )


def _trials(plan: experiment.Experiment, state: progress.Progress) -> Iterator[str]:
    if not (plan.tuning and state.trials):
        return
    numbers = {arm: max(1, sum(run.arm == arm for run in state.trials)) for arm in plan.arms}
    counts = ", ".join(f"{arm} {number}" for arm, number in numbers.items())
    shared = sorted(set(plan.tuning.seeds) & set(plan.seeds))
    whose = f", of which {shared} also count at the horizons, so that the choice favours them" if shared else ""
    seeds = numerals.count(len(plan.tuning.seeds), "seed")
    yield (
        f"Trials at {plan.tuning.horizon:.3g} FLOPs with {seeds}{whose} ({counts}). The combination with the lowest "
        "MLM loss is chosen, as a mean over seeds and lengths."
        + ("" if len(set(numbers.values())) == 1 else " **The arms have different numbers of trials.**")
    )
    yield ""
    rows: list[list[str]] = []
    notes: list[str] = []
    for arm in plan.arms.values():
        own = [run for run in state.trials if run.arm == arm.name]
        losses = [collected.mean_loss(run, state.results) for run in own]
        best = min((loss for loss in losses if loss is not None and loss < math.inf), default=None)
        for run, loss in zip(own, losses, strict=True):
            shown, mark = ("", "") if loss is None else (f"{loss:.4f}", "best" if loss == best else "")
            rows.append([run.arm, run.label, shown, mark])
        if None not in losses and best is not None:
            notes += _edges(arm, state.chosen[arm.name])
    yield from cells.table(["arm", "trial", "MLM loss", ""], rows)
    yield from notes


def _edges(arm: experiment.Arm, chosen: Mapping[str, object]) -> Iterator[str]:
    """Yields a note for each key whose best value is the least or largest of three or more."""
    for key, values in arm.choices.items():
        are_numbers = len(values) >= 3 and all(isinstance(value, int | float) for value in values)
        if are_numbers and chosen[key] in (edges := (min(values), max(values))):
            which = ("smallest", "largest")[edges.index(chosen[key])]
            yield ""
            yield f"{arm.name}: the best {key}, {chosen[key]}, is the {which} that was tried: try a further one."


def _losses(horizon_runs: Sequence[runs.Run], results: collected.Results) -> Iterator[str]:
    rows = []
    for run in sorted(horizon_runs, key=lambda run: run.horizon):
        if not (lines := collected.results_of(run, results)):
            continue
        values = [
            f"{cells.mean_and_deviation(collected.losses(run, results, length))}"
            for length in collected.lengths_of(results)
        ]
        accuracies = [
            f"{np.mean([line['lengths'][n][runs.NSP_ACCURACY] for line in lines]):.1%}"
            for n in lines[0]["lengths"]
            if all(line["lengths"][n].get(runs.NSP_ACCURACY) is not None for line in lines)
        ]
        rows.append([
            run.arm, f"{run.horizon:.3g}", f"{run.flops:.4g}", f"{run.cfg.num_steps:,}",
            f"{run.token_slots:.3g}", f"{lines[0]['epochs']:.2g}",
            numerals.duration(sum(line["seconds"] for line in lines) / len(lines)), *values,
            " / ".join(accuracies) or "-",
        ])  # fmt: skip
    if rows:
        heads = [f"MLM loss, {cells.label(length)}" for length in collected.lengths_of(results)]
        head = ["arm", "horizon", "FLOPs", "steps", "token slots", "epochs", "time of a seed", *heads, "NSP accuracy"]
        yield "Held-out figures at the end of each run: means over the seeds, with the standard deviation of a seed."
        yield ""
        yield from cells.table(head, rows)


def _gains(plan: experiment.Experiment, horizon_runs: Sequence[runs.Run], results: collected.Results) -> Iterator[str]:
    rows: list[list[str]] = []
    head = ["arm", "reference", "horizon", "loss", "curve", "gain", "95% by t", "95% bootstrap over seeds", ""]
    for reference in plan.references:
        for length in collected.lengths_of(results):
            for run in horizon_runs:
                if run.arm != reference and (
                    points := collected.reference_points(reference, horizon_runs, results, length)
                ):
                    rows += list(_gain_rows(run, reference, points, results, length))
    if rows:
        yield (
            "Gain: the compute that the reference needs for an arm's MLM loss, divided by the arm's. `power` is the "
            "fit loss = a + b x compute ^ -k; `line` is straight in log(compute), and careful beyond the reference's "
            "horizons. The seeds are paired. Trust the interval by t, because a bootstrap over a few seeds is too "
            "narrow."
        )
        yield ""
        yield from cells.table(head, rows)
        yield ""
        yield from _fits(plan, horizon_runs, results)


def _fits(plan: experiment.Experiment, horizon_runs: Sequence[runs.Run], results: collected.Results) -> Iterator[str]:
    """Yields the power law of each reference, with the residual that says how far to trust it."""
    for reference in plan.references:
        for length in collected.lengths_of(results):
            points = collected.reference_points(reference, horizon_runs, results, length)
            if points and length == collected.lengths_of(results)[0]:
                yield from _plateau(reference, *points)
            if points and len(points[0]) >= gain.CURVES["power"][1]:
                law = gain.fit_means(*points)
                number = len(points[1])
                errors = points[1].std(0, ddof=1) / math.sqrt(number) if number > 1 else [math.inf] * len(points[0])
                missed = [
                    f"{compute:.3g}"
                    for compute, residual, error in zip(points[0], law.residuals, errors, strict=True)
                    if residual > 2 * error
                ]
                doubt = (
                    f" **It misses {', '.join(missed)} FLOPs by more than twice the standard error: do not trust it.**"
                )
                yield (
                    f"Fit of {reference}, {cells.label(length)}: {law.floor:.3f} + {law.drop:.3f} x (compute / "
                    f"{points[0][-1]:.3g}) ^ -{law.exponent:.3f}; its largest residual is "
                    f"{max(law.residuals):.4f} nats.{doubt if missed else ''}"
                )


def _plateau(reference: str, compute_H: np.ndarray, losses_SH: np.ndarray) -> Iterator[str]:
    """Yields a warning if the seeds of a horizon lie far apart: some have left a plateau there, and others have not."""
    deviations = losses_SH.std(0, ddof=1) if len(losses_SH) > 1 else []
    for compute, deviation in zip(compute_H, deviations, strict=False):
        if deviation > APART:
            yield (
                f"**The seeds of {reference} at {compute:.3g} FLOPs have a deviation of {deviation:.3f} nats: some "
                "have left a plateau there and others have not. No curve through these losses can be trusted; take the "
                "gain of the differences above.**"
            )


def _gain_rows(
    run: runs.Run, reference: str, points: tuple[np.ndarray, np.ndarray], results: collected.Results, length: str
) -> Iterator[list[str]]:
    values = collected.losses(run, results, length)
    if not len(values):
        return
    for curve in gain.CURVES:
        if not np.isfinite(values).all():
            row = [run.arm, reference, f"{run.horizon:.3g}", cells.label(length), curve]
            yield [*row, "none: a run diverged", "", "", ""]
        elif found := gain.gain(curve, *points, run.flops, values):
            yield [
                run.arm, reference, f"{run.horizon:.3g}", cells.label(length), curve, f"{_factor(found.value)}",
                _interval(found.t, len(values)), _interval(found.bootstrap, len(values)), _beyond(found.beyond),
            ]  # fmt: skip


def _factor(value: float) -> str:
    if math.isinf(value):
        return "no compute is enough"
    if not value:
        return "too small to tell"  # the first line does not fall, and the loss is above it
    return "none" if math.isnan(value) else _number(value)


def _number(value: float) -> str:
    return f"{value:.2f}" if value < TOO_LARGE else f"{value:.3g}"


def _interval(interval: gain.Interval, seeds: int) -> str:
    if seeds < 2:
        return "needs two seeds"
    low, high = interval
    # From 0, or to infinity, both bounds alike: no resample has a gain that is a number.
    if math.isnan(low) or math.isnan(high) or math.isinf(low) or not high or (low == 0 and math.isinf(high)):
        return "unknown"
    return f"{_number(low)} .. {_number(high)}" if math.isfinite(high) else f"above {_number(low)}"


def _beyond(factor: float) -> str:
    if factor in (0.0, 1.0) or not math.isfinite(factor):
        return ""
    if not 1 / FAR < factor < FAR:
        return f"extrapolated more than {FAR} times"
    return f"extrapolated x {factor:.2f}" if factor > 1 else f"extrapolated / {1 / factor:.2f}"


def _notes(plan: experiment.Experiment, all_runs: Sequence[runs.Run], results: collected.Results) -> Iterator[str]:
    for run in all_runs:
        losses = collected.losses(run, results, collected.MEAN)
        if run.arm in plan.references and run.kind == runs.AT_HORIZON and not np.isfinite(losses).all():
            yield f"{run.name}: a seed diverged, so the curves of {run.arm} have no point at this horizon."
    codes = {line["code"] for run in all_runs for line in collected.results_of(run, results)}
    if len(codes) > 1:
        yield f"The runs were trained by {len(codes)} versions of the code (versions.json in each workdir)."
    for run in all_runs:
        # Seeds that trained together have one number, of all of them.
        by_workdir = {line["workdir"]: line["skipped_steps"] for line in collected.results_of(run, results)}
        if skipped := sum(by_workdir.values()):
            yield (
                f"{run.name}: {numerals.count(skipped, 'step')} of all seeds had no finite loss or gradient and "
                "changed nothing."
            )
