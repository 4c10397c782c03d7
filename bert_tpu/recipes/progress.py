"""The runs that an experiment plans, and the results that they have at one moment."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bert_tpu.core import command
from bert_tpu.pretrain import pretraining
from bert_tpu.recipes import collected, experiment, runs

Part = tuple[runs.Run, tuple[int, ...]]  # a run, and those of its seeds that train together


class Progress(NamedTuple):
    """The runs and their results.

    trials: runs that decide the choices
    chosen: arm -> its keys with the choices made
    finals: runs at the horizons, and then those that leave a lever out
    results: of these runs, by identity
    seen: number of results, those of other files too
    """

    trials: list[runs.Run]
    chosen: dict[str, dict[str, Any]]
    finals: list[runs.Run]
    results: collected.Results
    seen: int

    @property
    def all_runs(self) -> list[runs.Run]:
        """All runs, in the order of running."""
        return [*self.trials, *self.finals]

    @property
    def flops(self) -> dict[str, float]:
        """The FLOPs of each result, by identity. A trial that is also a run at a horizon is one result."""
        return {identity: run.flops for run in self.all_runs for identity in run.identities.values()}

    @property
    def open_arms(self) -> set[str]:
        """The arms whose choices are not made yet."""
        return {run.arm for run in self.trials if not collected.results_of(run, self.results)}

    @property
    def diverged_arms(self) -> set[str]:
        """The arms that have nothing to choose, because no trial has a finite loss."""
        by_arm = {arm: [run for run in self.trials if run.arm == arm] for arm in self.chosen}
        return {arm for arm, trials in by_arm.items() if collected.have_diverged(trials, self.results)}

    @property
    def decided(self) -> list[runs.Run]:
        """The finals of the arms whose choices are made."""
        undecided = self.open_arms | self.diverged_arms
        return [run for run in self.finals if run.arm not in undecided]

    def pending(self, at_once: int) -> list[Part]:
        """Returns all that is not finished, each result once, in the order of running."""
        diverged, done = self.diverged_arms, set(self.results)
        parts: list[Part] = []
        for run in self.all_runs:
            if run.kind == runs.TRIAL or run.arm not in diverged:
                parts += [(run, seeds) for seeds in runs.groups(run, at_once, done)]
                done |= set(run.identities.values())
        return parts


def read(plan: experiment.Experiment, heldout: Mapping[str, Any], found: Mapping[str, runs.Result]) -> Progress:
    """Returns the progress of a plan. Raises UserError for a wrong key or value.

    heldout: as returned by `heldout_facts`
    found: results by identity, of which those of other files are left out
    """
    trials = list(make_trials(plan, heldout))
    chosen = choose(plan, trials, found)
    finals = list(make_finals(plan, chosen, heldout))
    planned = {identity for run in [*trials, *finals] for identity in run.identities.values()}
    return Progress(trials, chosen, finals, {key: found[key] for key in found.keys() & planned}, len(found))


def heldout_facts(plan: experiment.Experiment) -> dict[str, Any]:
    """Returns what all runs are evaluated on. Raises UserError if that is nothing."""
    reference = plan.reference()
    if not reference.eval.num_batches:
        raise command.UserError(
            f"{plan.path}: eval.num_batches is 0, and recipes are compared by their held-out loss: give 1 or more. The "
            "corpus needs two held-out texts"
        )
    return runs.heldout_facts(reference, pretraining.open_corpus(reference))


def make_trials(plan: experiment.Experiment, heldout: Mapping[str, object]) -> Iterator[runs.Run]:
    """Yields the trials of each arm with a choice, one for each combination. Arguments as in runs.make_run."""
    for arm in plan.arms.values():
        for number, choice in enumerate(arm.trials(), 1):
            if arm.choices and plan.tuning:
                words = ", ".join(f"{key}={value}" for key, value in choice.items())
                yield runs.make_run(
                    plan, arm.name, runs.TRIAL, arm.keys | choice, label=f"{number} ({words})",
                    horizon=plan.tuning.horizon, seeds=plan.tuning.seeds, heldout=heldout,
                )  # fmt: skip


def choose(
    plan: experiment.Experiment, trials: Sequence[runs.Run], results: collected.Results
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
    plan: experiment.Experiment, chosen: Mapping[str, dict[str, object]], heldout: Mapping[str, object]
) -> Iterator[runs.Run]:
    """Yields the runs at the horizons, in the order of running, and then those that leave a lever out.

    The first reference at the largest horizon comes first, because its spread says what can be shown at all.
    """
    pairs = [(horizon, arm.name) for arm in plan.arms.values() for horizon in arm.horizons]
    pairs.sort(key=lambda pair: pair[0])
    pairs.sort(key=lambda pair: pair != (plan.horizons[-1], plan.references[0]))
    for horizon, arm in pairs:
        yield runs.make_run(plan, arm, runs.AT_HORIZON, chosen[arm], horizon=horizon, seeds=plan.seeds, heldout=heldout)
    if left_out := plan.leave_out:
        for lever, keys in left_out.levers.items():
            rest = {key: value for key, value in chosen[left_out.arm].items() if key not in keys}
            yield runs.make_run(
                plan, left_out.arm, runs.LEAVE_OUT, rest, label=lever, horizon=plan.horizons[-1],
                seeds=left_out.seeds, heldout=heldout,
            )  # fmt: skip
