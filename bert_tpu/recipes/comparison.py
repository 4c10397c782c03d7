"""Runs an experiment from its file to its tables, and goes on where an earlier start ended."""

from collections.abc import Iterator, Mapping, Sequence
import json
import pathlib
import sys
import time

from bert_tpu.core import command, locks, numerals, storage
from bert_tpu.pretrain import pretraining
from bert_tpu.recipes import cells, collected, experiment, plot, runs, starts, tables

RESULTS, TABLES, PLOT = "results.jsonl", "results.md", "results.png"
WAIT_S = 5  # between looks for a free run


def compare(plan: experiment.Experiment, out: pathlib.Path) -> int:
    """Trains all runs of `plan` that are not finished in `out`; returns 0, or the exit code of a run that was stopped.

    After each run it writes RESULTS (a line for each run and seed), TABLES and PLOT. `out` may have results of another
    version of the file: those of runs with the same keys count, the others are left alone. Other starts with the same
    file may work in `out` at the same time. Each returns when all runs are finished.
    """
    out.mkdir(parents=True, exist_ok=True)
    with starts.join(out, plan.path.read_text()):
        return _compare(plan, out)


def _compare(plan: experiment.Experiment, out: pathlib.Path) -> int:
    reference = plan.reference()
    if not reference.eval.num_batches:
        raise command.UserError(f"{plan.path}: eval.num_batches is 0, and recipes are compared by their held-out loss")
    judge = runs.facts(reference, pretraining.open_corpus(reference))
    trials, results = list(make_trials(plan, judge)), runs.finished(out)
    chosen = choose(plan, trials, results)
    finals, is_waiting = list(make_finals(plan, chosen, judge)), False
    _report(plan, trials, finals, chosen, out)
    while pending := list(_pending(plan, [*trials, *finals], results)):
        undecided = {run.arm for run in trials if not collected.lines_of(run, results)}
        ready = [(run, seeds) for run, seeds in pending if run.kind == runs.TRIAL or run.arm not in undecided]
        with starts.take([out / runs.FOLDER / run.folder(seeds) for run, seeds in ready], runs.RESULT) as place:
            if place is not None:
                _say(*ready[place], pending, len([*trials, *finals]), results, starts_at_work=place + 1)
                if code := runs.train(*ready[place], out, reference):
                    print("stopped; the same command goes on from there", file=sys.stderr)
                    return code
        if place is None:
            if not is_waiting:
                print("waiting for the runs of other starts of this comparison", file=sys.stderr, flush=True)
            time.sleep(WAIT_S)
        is_waiting, known, results = place is None, len(results), runs.finished(out)
        if len(results) > known:
            if (better := choose(plan, trials, results)) != chosen:
                chosen, finals = better, list(make_finals(plan, better, judge))
            _report(plan, trials, finals, chosen, out)
    return 0


def make_trials(plan: experiment.Experiment, judge: Mapping[str, object]) -> Iterator[runs.Run]:
    """Yields the trials of each arm with a choice, one for each combination. Arguments as in runs.make_run."""
    for arm in plan.arms.values():
        for number, choice in enumerate(arm.trials(), 1):
            if arm.choices:
                yield runs.make_run(
                    plan, arm.name, runs.TRIAL, arm.keys | choice, label=f"{number} ({text(choice)})",
                    horizon=plan.tuning_horizon, seeds=plan.tuning_seeds, judge=judge,
                )  # fmt: skip


def text(choice: Mapping[str, object]) -> str:
    """Returns a choice in words."""
    return ", ".join(f"{key}={value}" for key, value in choice.items())


def choose(
    plan: experiment.Experiment, trials: Sequence[runs.Run], results: Mapping[str, runs.Result]
) -> dict[str, dict[str, object]]:
    """Returns the keys of each arm with its choices made: the combination with the least mean loss over the seeds.

    While trials are missing, the first combination stands for the best: the steps of a run hardly depend on it.
    """
    chosen = {}
    for arm in plan.arms.values():
        own = [run for run in trials if run.arm == arm.name]
        losses = [collected.mean_loss(run, results) for run in own]
        best = losses.index(min(losses)) if losses and None not in losses else 0  # type: ignore[type-var]
        chosen[arm.name] = arm.keys | list(arm.trials())[best]
    return chosen


def make_finals(
    plan: experiment.Experiment, chosen: Mapping[str, dict[str, object]], judge: Mapping[str, object]
) -> Iterator[runs.Run]:
    """Yields the runs at the horizons, in the order of running, and then those that leave a lever out.

    The first reference at the largest horizon comes first, because its spread says what can be shown at all.
    """
    pairs = [(horizon, arm) for horizon in plan.horizons for arm in plan.arms]
    pairs.sort(key=lambda pair: pair != (plan.horizons[-1], plan.references[0]))
    for horizon, arm in pairs:
        yield runs.make_run(plan, arm, runs.FULL, chosen[arm], horizon=horizon, seeds=plan.seeds, judge=judge)
    for lever, keys in plan.levers.items():
        rest = {key: value for key, value in chosen[plan.leave_out_arm].items() if key not in keys}
        yield runs.make_run(
            plan, plan.leave_out_arm, runs.LEAVE_OUT, rest, label=lever, horizon=plan.horizons[-1],
            seeds=plan.leave_out_seeds, judge=judge,
        )  # fmt: skip


def _pending(
    plan: experiment.Experiment, every: Sequence[runs.Run], results: Mapping[str, runs.Result]
) -> Iterator[tuple[runs.Run, tuple[int, ...]]]:
    """Yields (run, seeds that train together) of all that is not finished, in the order of running."""
    for run in every:
        for seeds in runs.groups(run, plan.at_once, results):
            yield run, seeds


def _say(
    run: runs.Run, seeds: Sequence[int], pending: Sequence[tuple[runs.Run, tuple[int, ...]]], whole: int,
    results: Mapping[str, runs.Result], starts_at_work: int,
) -> None:  # fmt: skip
    """Prints which run begins, and how long all of them will take at the speed so far."""
    left_s = _seconds_left(pending, results) / starts_at_work
    when = f"about {cells.duration(left_s)} left for all" if results else "the first run shows the speed"
    unfinished = len({(other.arm, other.kind, other.label, other.horizon) for other, _ in pending})
    numbers = f"{numerals.inflect(len(seeds), '[seed|seeds]')} {', '.join(map(str, seeds))}"
    print(
        f"run {whole - unfinished + 1} of {whole}: {run.name}, {numbers}, {run.cfg.num_steps:,} steps; {when}",
        file=sys.stderr, flush=True,
    )  # fmt: skip


def _seconds_left(pending: Sequence[tuple[runs.Run, tuple[int, ...]]], results: Mapping[str, runs.Result]) -> float:
    """Returns the seconds of the pending runs: of their steps by FLOPs, and of their starts by number."""
    flops, step_s, whole_s = (
        sum(line[key] for line in results.values()) for key in ("flops", "step_seconds", "seconds")
    )
    starts = sum(1 / line["at_once"] for line in results.values())
    left = sum(run.flops * len(seeds) for run, seeds in pending)
    return left / flops * step_s + len(pending) * (whole_s - step_s) / starts if results else 0.0


def _report(
    plan: experiment.Experiment, trials: Sequence[runs.Run], finals: Sequence[runs.Run],
    chosen: Mapping[str, Mapping[str, object]], out: pathlib.Path,
) -> None:  # fmt: skip
    """Writes the results so far, as lines, as tables and as a plot. An arm that is not chosen yet has only trials."""
    with locks.hold(out / ".report", wait=True):  # so that no other start's older results replace these
        _write(plan, trials, finals, chosen, runs.finished(out), out)


def _write(
    plan: experiment.Experiment, trials: Sequence[runs.Run], finals: Sequence[runs.Run],
    chosen: Mapping[str, Mapping[str, object]], results: Mapping[str, runs.Result], out: pathlib.Path,
) -> None:  # fmt: skip
    open_arms = {run.arm for run in trials if not collected.lines_of(run, results)}
    finals = [run for run in finals if run.arm not in open_arms]
    lines = [
        results[identity] | {"arm": run.arm, "kind": run.kind, "label": run.label, "horizon": run.horizon}
        for run in [*trials, *finals]
        for identity in run.identities.values()
        if identity in results
    ]
    storage.write_text(out / RESULTS, "".join(json.dumps(line) + "\n" for line in lines))
    storage.write_text(out / TABLES, tables.page(plan, trials, finals, chosen, results))
    plot.draw(plan, finals, results, out / PLOT)


def outline(plan: experiment.Experiment, out: pathlib.Path) -> str:
    """Returns a table of all runs, without training. Raises UserError for anything wrong in the file."""
    reference = plan.reference()
    judge = runs.facts(reference, pretraining.open_corpus(reference))
    trials, results = list(make_trials(plan, judge)), runs.finished(out)
    every = [*trials, *make_finals(plan, choose(plan, trials, results), judge)]
    rows = [
        [
            run.name, str(len(run.identities)), f"{run.cfg.num_steps:,}", f"{run.flops:.4g}",
            f"{run.token_slots:.3g}", str(sum(identity in results for identity in run.identities.values())),
        ]
        for run in every
    ]  # fmt: skip
    total = sum(run.flops * len(run.identities) for run in every)
    head = ["run", "seeds", "steps", "FLOPs of a seed", "token slots", "finished"]
    return "\n".join([*cells.table(head, rows), "", f"{total:.4g} FLOPs in all"])
