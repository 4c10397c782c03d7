"""The work of a run around its steps: log, evaluation, checkpoint, stopping and giving up."""

from collections.abc import Callable, Iterator
import contextlib
from typing import Any, NamedTuple, NoReturn

from etils import epath
import jax
import numpy as np

from bert_tpu.distributed import hosts, signals
from bert_tpu.distributed import watchdog as watchdogs
from bert_tpu.monitoring import hours, log, profiles
from bert_tpu.training import checkpoint, jobs, loop, nonfinite

# Step -> iterator of (sequence length, this host's rows) from that step on.
BatchesFrom = Callable[[int], Iterator[tuple[int, jobs.Batch]]]


class Services(NamedTuple):
    """All that a run uses around its steps. facts, advice: as in trainer.Training."""

    directory: epath.Path
    facts: dict[str, Any]
    advice: str
    group: hosts.Hosts
    stop_signals: signals.StopSignals
    watchdog: watchdogs.Watchdog
    checkpoints: checkpoint.Checkpoints
    clock: hours.Hours
    skipped: nonfinite.SkippedSteps
    run_log: log.Log
    profile: profiles.Profile


def make(services: Services, evaluate: Callable[[int, jobs.State], None], batches_from: BatchesFrom) -> loop.Hooks:
    """Returns the functions that the loop of a run calls.

    services: those of the run
    evaluate: function (number of finished steps, state) that evaluates and logs the result
    batches_from: a run that gives up reads its skipped batches from it again
    """

    def step(finished: int, seq_len: int, sums: jobs.HostSums, seconds: float, input_s: float) -> None:
        services.skipped.count(finished, seq_len, sums)
        if np.ndim(sums["skipped"][0]):  # of several trainings at once
            sums = jax.tree.map(np.sum, sums)
        services.checkpoints.check()
        services.run_log.step(finished, seq_len, sums, seconds, input_s)
        services.clock.add_input_wait(input_s)
        if finished % services.run_log.every_steps == 0:
            with contextlib.suppress(OSError):  # the next write has these hours, too
                services.clock.write(finished, within_s=hours.WRITE_S)

    def report_and_evaluate(finished: int, state: jobs.State) -> None:
        if warning := services.skipped.report(services.advice):
            services.run_log.say(f"warning: {warning}")
        evaluate(finished, state)

    def is_decisive(begun: int) -> bool:
        # So no sound step is under way when the run gives up.
        return services.skipped.is_last_chance()

    def save(finished: int, state: jobs.State) -> None:
        if services.skipped.is_exhausted():
            _give_up(services, finished, state, batches_from)
        meta = {"unlogged": services.run_log.unlogged(), "unreported_skips": services.skipped.unreported}
        services.checkpoints.save(state, services.facts | meta)
        services.clock.mark_saved(finished)
        services.clock.write(finished)

    def should_stop(begun: int) -> bool:
        if services.skipped.is_exhausted():  # on all hosts at once: they have the same sums
            return True
        if not services.group.should_stop(begun, services.stop_signals.signal):
            return False
        services.stop_signals.signal = services.group.signal  # so all hosts end with the same exit code
        return True

    def enter_phase(begun: int, phase: str) -> None:
        services.watchdog.enter_phase(begun, phase)
        # While a batch is fetched the devices may compute the step before. `step` gets the time that they waited.
        services.clock.enter("step" if phase == "input" else phase)

    return loop.Hooks(step, report_and_evaluate, save, services.profile.before, is_decisive, should_stop, enter_phase)


def _give_up(services: Services, finished: int, state: jobs.State, batches_from: BatchesFrom) -> NoReturn:
    services.run_log.write_lines(finished)
    services.run_log.flush()
    batches = batches_from(services.skipped.steps[0][0])
    nonfinite.give_up(
        services.directory, services.skipped, state, batches, services.facts, services.group, services.advice
    )
