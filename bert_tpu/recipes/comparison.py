"""Runs an experiment from its file to its tables, and goes on where an earlier start ended."""

from collections.abc import Iterator, Mapping, Sequence
import json
import pathlib
import sys
import time
from typing import Any, NamedTuple

from bert_tpu.core import command, locks, numerals, storage
from bert_tpu.pretrain import pretraining
from bert_tpu.recipes import cells, collected, doubts, experiment, plot, runs, starts, tables

RESULTS, TABLES, PLOT = "results.jsonl", "results.md", "results.png"
WAIT_S = 5  # between looks for a free run


def compare(plan: experiment.Experiment, out: pathlib.Path) -> int:
    """Trains all runs of `plan` that are not finished in `out`; returns 0, or the exit code of a run that was stopped.

    After each run it writes RESULTS (a line for each run and seed), TABLES and PLOT. `out` may have results of another
    version of the file: those of runs with the same keys count, the others are left alone. Other starts with the same
    file may work in `out` at the same time. Each returns when all runs are finished.
    """
    out.mkdir(parents=True, exist_ok=True)
    with starts.join(out, plan.path.read_text(encoding="utf-8")):
        return _compare(plan, out)


class Known(NamedTuple):
    """The plan and the results at one moment.

    chosen: arm -> its keys with the choices made
    results: of the planned runs, by identity
    seen: results in OUT, those of other files too
    """

    trials: list[runs.Run]
    chosen: dict[str, dict[str, Any]]
    finals: list[runs.Run]
    results: dict[str, runs.Result]
    seen: int

    @property
    def every(self) -> list[runs.Run]:
        """All runs, in the order of running."""
        return [*self.trials, *self.finals]

    @property
    def open_arms(self) -> set[str]:
        """The arms whose choices are not made yet."""
        return {run.arm for run in self.trials if not collected.lines_of(run, self.results)}

    @property
    def diverged_arms(self) -> set[str]:
        """The arms that have nothing to choose, because no trial has a finite loss."""
        by_arm = {arm: [run for run in self.trials if run.arm == arm] for arm in self.chosen}
        return {arm for arm, trials in by_arm.items() if collected.have_diverged(trials, self.results)}

    def pending(self, at_once: int) -> list[tuple[runs.Run, tuple[int, ...]]]:
        """Returns (run, seeds that train together) of all that is not finished, in the order of running."""
        diverged = self.diverged_arms
        return [
            (run, seeds)
            for run in self.every
            if run.kind == runs.TRIAL or run.arm not in diverged
            for seeds in runs.groups(run, at_once, self.results)
        ]


def _look(plan: experiment.Experiment, judge: Mapping[str, Any], out: pathlib.Path) -> Known:
    trials, found = list(make_trials(plan, judge)), runs.finished(out)
    chosen = choose(plan, trials, found)
    finals = list(make_finals(plan, chosen, judge))
    planned = {identity for run in [*trials, *finals] for identity in run.identities.values()}
    return Known(trials, chosen, finals, {key: found[key] for key in found.keys() & planned}, len(found))


def _judge(plan: experiment.Experiment) -> dict[str, Any]:
    """Returns what all runs are evaluated on. Raises UserError if that is nothing."""
    reference = plan.reference()
    if not reference.eval.num_batches:
        raise command.UserError(
            f"{plan.path}: eval.num_batches is 0, and recipes are compared by their held-out loss: give 1 or more. The "
            "corpus needs two held-out texts"
        )
    return runs.facts(reference, pretraining.open_corpus(reference))


def _compare(plan: experiment.Experiment, out: pathlib.Path) -> int:
    judge, is_waiting = _judge(plan), False
    notes = doubts.of_runs(plan, _look(plan, judge, out).every)
    for sentence in notes:
        print(f"warning: {sentence}", file=sys.stderr, flush=True)
    known = _report(plan, judge, notes, out)
    while pending := known.pending(plan.at_once):
        open_arms = known.open_arms
        ready = [(run, seeds) for run, seeds in pending if run.kind == runs.TRIAL or run.arm not in open_arms]
        with starts.take([out / runs.FOLDER / run.folder(seeds) for run, seeds in ready], runs.RESULT) as place:
            if place is not None:
                _say(*ready[place], known, pending, others=place)
                if code := runs.train(*ready[place], out, plan.reference()):
                    print("stopped; the same command goes on from there", file=sys.stderr)
                    return code
        if place is None:
            if not is_waiting:
                print("waiting for the runs of other starts of this comparison", file=sys.stderr, flush=True)
            time.sleep(WAIT_S)
        is_waiting = place is None
        if len(runs.finished(out)) > known.seen:
            known = _report(plan, judge, notes, out)
    if arms := sorted(known.diverged_arms):
        raise command.UserError(
            f"{plan.path}: no trial of {' and '.join(arms)} has a finite loss, so the other runs have no "
            "choice to take: give other values"
        )
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
    pairs = [(horizon, arm.name) for arm in plan.arms.values() for horizon in arm.horizons]
    pairs.sort(key=lambda pair: pair[0])
    pairs.sort(key=lambda pair: pair != (plan.horizons[-1], plan.references[0]))
    for horizon, arm in pairs:
        yield runs.make_run(plan, arm, runs.FULL, chosen[arm], horizon=horizon, seeds=plan.seeds, judge=judge)
    for lever, keys in plan.levers.items():
        rest = {key: value for key, value in chosen[plan.leave_out_arm].items() if key not in keys}
        yield runs.make_run(
            plan, plan.leave_out_arm, runs.LEAVE_OUT, rest, label=lever, horizon=plan.horizons[-1],
            seeds=plan.leave_out_seeds, judge=judge,
        )  # fmt: skip


def _say(
    run: runs.Run, seeds: Sequence[int], known: Known, pending: Sequence[tuple[runs.Run, tuple[int, ...]]], *,
    others: int,
) -> None:  # fmt: skip
    """Prints which run begins, and how long all of them will take at the speed so far.

    others: runs that other starts train now
    """
    left_s = _seconds_left(pending, known.results) / (others + 1)
    when = f"about {cells.duration(left_s)} left for all" if known.results else "the first run shows the speed"
    whose = f"; {others} other {numerals.inflect(others, '[start is|starts are]')} at work" if others else ""
    numbers = f"{numerals.inflect(len(seeds), '[seed|seeds]')} {', '.join(map(str, seeds))}"
    print(
        f"run {known.every.index(run) + 1} of {len(known.every)}: {run.name}, {numbers}, {run.cfg.num_steps:,} steps; "
        f"{when}{whose}", file=sys.stderr, flush=True,
    )  # fmt: skip


def _seconds_left(pending: Sequence[tuple[runs.Run, tuple[int, ...]]], results: Mapping[str, runs.Result]) -> float:
    """Returns the seconds of the pending runs: of their steps by FLOPs, and of their starts by number."""
    flops, step_s, whole_s = (
        sum(line[key] for line in results.values()) for key in ("flops", "step_seconds", "seconds")
    )
    starts_so_far = sum(1 / line["at_once"] for line in results.values())
    left = sum(run.flops * len(seeds) for run, seeds in pending)
    return left / flops * step_s + len(pending) * (whole_s - step_s) / starts_so_far if results else 0.0


def _report(plan: experiment.Experiment, judge: Mapping[str, Any], notes: Sequence[str], out: pathlib.Path) -> Known:
    """Writes the results so far, as lines, as tables and as a plot. An arm that is not chosen yet has only trials.

    notes: sentences of `doubts` for the page
    """
    with locks.hold(out / ".report", wait=True):  # so that no other start's older results replace these
        known = _look(plan, judge, out)
        undecided = known.open_arms | known.diverged_arms
        finals = [run for run in known.finals if run.arm not in undecided]
        lines = [
            known.results[identity] | {"arm": run.arm, "kind": run.kind, "label": run.label, "horizon": run.horizon}
            for run in [*known.trials, *finals]
            for identity in run.identities.values()
            if identity in known.results
        ]
        storage.write_text(out / RESULTS, "".join(json.dumps(line) + "\n" for line in lines))
        page = tables.page(plan, known.trials, finals, known.chosen, known.results)
        storage.write_text(out / TABLES, page + "".join(f"\nWarning: {sentence}.\n" for sentence in notes))
        plot.draw(plan, finals, known.results, out / PLOT)
    return known


def count_finished(plan: experiment.Experiment, out: pathlib.Path) -> int:
    """Returns how many runs of `plan` have a result in `out`, each seed by itself. Errors are those of `outline`."""
    return len(_look(plan, _judge(plan), out).results)


def outline(plan: experiment.Experiment, out: pathlib.Path) -> str:
    """Returns a table of all runs, without training. Raises UserError for anything wrong in the file."""
    known = _look(plan, _judge(plan), out)
    rows = [
        [
            run.name, str(len(run.identities)), f"{run.cfg.num_steps:,}", f"{run.flops:.4g}",
            f"{run.token_slots:.3g}", str(sum(identity in known.results for identity in run.identities.values())),
        ]
        for run in known.every
    ]  # fmt: skip
    total = sum(run.flops * len(run.identities) for run in known.every)
    warnings = [f"warning: {sentence}" for sentence in doubts.of_runs(plan, known.every)]
    head = ["run", "seeds", "steps", "FLOPs of a seed", "token slots", "finished"]
    return "\n".join([*cells.table(head, rows), "", f"{total:.4g} FLOPs in all", *warnings])
