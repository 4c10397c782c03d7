"""Runs an experiment from its file to its tables, and goes on where an earlier start ended."""

from collections.abc import Mapping, Sequence
import json
import pathlib
import sys
import time
from typing import Any

from bert_tpu.core import command, locks, numerals, storage
from bert_tpu.recipes import cells, config_warnings, experiment, other_results, plot, progress, runs, tables, workers

RESULTS, TABLES, PLOT = "results.jsonl", "results.md", "results.png"
WAIT_S = 5  # between looks for a free run


def compare(plan: experiment.Experiment, out: pathlib.Path, files: Sequence[pathlib.Path] = ()) -> int:
    """Trains all runs of `plan` that are not finished in `out`; returns 0, or the exit code of a run that was stopped.

    After each run it writes RESULTS (a line for each run and seed), TABLES and PLOT. `out` may have results of another
    version of the file: those of runs with the same keys count, the others are left alone. Other starts with the same
    file may work in `out` at the same time. Each returns when all runs are finished.

    files: results.jsonl of other machines, whose runs count as finished
    """
    out.mkdir(parents=True, exist_ok=True)
    with workers.join(out, plan.path.read_text(encoding="utf-8")):
        taken = other_results.take_over(files, out) if files else None
        return _compare(plan, out, taken)


def _compare(plan: experiment.Experiment, out: pathlib.Path, taken: int | None) -> int:
    """Trains as `compare` says. taken: results that were taken over; None if there were no files of them"""
    heldout, is_waiting = progress.heldout_facts(plan), False
    state = progress.read(plan, heldout, runs.finished(out))
    notes = config_warnings.of_runs(plan, state.all_runs)
    for sentence in [*_of_other_machines(plan, state, out, taken), *(f"warning: {sentence}" for sentence in notes)]:
        print(sentence, file=sys.stderr, flush=True)
    state = _report(plan, heldout, notes, out)
    while pending := state.pending(plan.at_once):
        open_arms = state.open_arms
        ready = [(run, seeds) for run, seeds in pending if run.kind == runs.TRIAL or run.arm not in open_arms]
        with workers.take([out / runs.FOLDER / run.folder(seeds) for run, seeds in ready], runs.RESULT) as place:
            if place is not None:
                _say(*ready[place], state, pending, others=place)
                if code := runs.train(*ready[place], out, plan.reference()):
                    print("stopped; the same command goes on from there", file=sys.stderr)
                    return code
        if place is None:
            if not is_waiting:
                print("waiting for the runs of other starts of this comparison", file=sys.stderr, flush=True)
            time.sleep(WAIT_S)
        is_waiting = place is None
        if len(runs.finished(out)) > state.seen:
            state = _report(plan, heldout, notes, out)
    if arms := sorted(state.diverged_arms):
        raise command.UserError(
            f"{plan.path}: no trial of {' and '.join(arms)} has a finite loss, so the other runs have no "
            "choice to take: give other values"
        )
    return 0


def _of_other_machines(
    plan: experiment.Experiment, state: progress.Progress, out: pathlib.Path, taken: int | None
) -> list[str]:
    """Returns sentences about results of other machines. taken: as in `_compare`"""
    if taken is None:
        return []
    own = len(state.results)
    copied = (
        f"copied {numerals.count(taken, 'result')} into {out}; it has {numerals.count(own, 'result')} of {plan.path}"
    )
    doubt = "warning: a result is used only for a run with the same corpus, held-out rows and keys"
    return [copied] if own else [copied, doubt]


def _say(
    run: runs.Run, seeds: Sequence[int], state: progress.Progress, pending: Sequence[progress.Part], *,
    others: int,
) -> None:  # fmt: skip
    """Prints which run begins, and how long all of them will take at the speed so far.

    others: runs that other starts train now
    """
    left_s = _seconds_left(pending, state.results) / (others + 1)
    when = f"about {numerals.duration(left_s)} left for all" if state.results else "the first run shows the speed"
    whose = f"; {others} other {numerals.inflect(others, '[start is|starts are]')} at work" if others else ""
    numbers = f"{numerals.inflect(len(seeds), '[seed|seeds]')} {', '.join(map(str, seeds))}"
    print(
        f"run {state.all_runs.index(run) + 1} of {len(state.all_runs)}: {run.name}, {numbers}, "
        f"{run.cfg.num_steps:,} steps; {when}{whose}", file=sys.stderr, flush=True,
    )  # fmt: skip


def _seconds_left(pending: Sequence[progress.Part], results: Mapping[str, runs.Result]) -> float:
    """Returns the seconds of the pending runs: of their steps by FLOPs, and of their starts by number."""
    flops, step_s, whole_s = (
        sum(line[key] for line in results.values()) for key in ("flops", "step_seconds", "seconds")
    )
    starts_so_far = sum(1 / line["at_once"] for line in results.values())
    left = sum(run.flops * len(seeds) for run, seeds in pending)
    return left / flops * step_s + len(pending) * (whole_s - step_s) / starts_so_far if results else 0.0


def _report(
    plan: experiment.Experiment, heldout: Mapping[str, Any], notes: Sequence[str], out: pathlib.Path
) -> progress.Progress:
    """Writes the results so far, as lines, as tables and as a plot. An arm that is not chosen yet has only trials.

    notes: sentences of `config_warnings` for the page
    """
    with locks.hold(out / ".report", wait=True):  # so that no other start's older results replace these
        state = progress.read(plan, heldout, runs.finished(out))
        lines = [
            state.results[identity] | {"arm": run.arm, "kind": run.kind, "label": run.label, "horizon": run.horizon}
            for run in [*state.trials, *state.decided]
            for identity in run.identities.values()
            if identity in state.results
        ]
        storage.write_text(out / RESULTS, "".join(json.dumps(line) + "\n" for line in lines))
        page = tables.page(plan, state)
        storage.write_text(out / TABLES, page + "".join(f"\nWarning: {sentence}.\n" for sentence in notes))
        plot.draw(plan, state.decided, state.results, out / PLOT)
    return state


def outline(plan: experiment.Experiment, out: pathlib.Path, files: Sequence[pathlib.Path] = ()) -> str:
    """Returns a table of all runs, without training. Raises UserError for anything wrong in the file.

    files: as in `compare`; nothing is written
    """
    found = other_results.read(files) | runs.finished(out)
    state = progress.read(plan, progress.heldout_facts(plan), found)
    rows = [
        [
            run.name, str(len(run.identities)), f"{run.cfg.num_steps:,}", f"{run.flops:.4g}",
            f"{run.token_slots:.3g}", str(sum(identity in state.results for identity in run.identities.values())),
        ]
        for run in state.all_runs
    ]  # fmt: skip
    total = sum(state.flops.values())
    warnings = [f"warning: {sentence}" for sentence in config_warnings.of_runs(plan, state.all_runs)]
    head = ["run", "seeds", "steps", "FLOPs of a seed", "token slots", "finished"]
    return "\n".join([*cells.table(head, rows), "", f"{total:.4g} FLOPs in all", *warnings])
