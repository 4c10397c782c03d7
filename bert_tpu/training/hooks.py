"""What happens beside the steps of a run: its books, evaluations, saves, stops, and giving up."""

import contextlib
from typing import Any, NamedTuple

import jax
import numpy as np

from bert_tpu.distributed import hosts, mesh, signals, watchdog
from bert_tpu.monitoring import hours, log
from bert_tpu.training import checkpoint, loop, nonfinite, recomputed


class Beside(NamedTuple):
    """All that a run has beside its steps. facts, mend: as running.Training has them."""

    directory: Any
    facts: dict
    mend: str
    group: hosts.Hosts
    stopping: signals.Stop
    dog: watchdog.Watchdog
    checkpoints: checkpoint.Checkpoints
    clock: hours.Hours
    skips: nonfinite.Skips
    books: log.Log
    profile: log.Profile


@contextlib.contextmanager
def open_books(cfg, training, on, directory, first_step, meta, writes):
    """The run's Log and Profile, open while the context lasts."""
    this, schedule, peak = training.job, training.schedule, mesh.peak_flops(on)
    books = log.Log(
        **cfg.log, workdir=directory, first_step=first_step, num_steps=cfg.num_steps,
        batch_size=schedule.batch_size, rows=schedule.rows, objectives=training.objectives,
        learning_rate=this.learning_rate,
        work=lambda step: sum(schedule.before(step, n) * flops for n, flops in this.flops.items()),
        peak_s={n: flops / peak for n, flops in this.flops.items()} if peak else {},
        unlogged=meta["unlogged"], writes=writes,
    )  # fmt: skip
    profile = log.Profile(**cfg.profile, directory=directory / "profile")
    with contextlib.closing(books), contextlib.closing(profile):
        yield books, profile


def hooks(run, evaluate, batches_from) -> loop.Hooks:
    """What the loop calls of `run`. batches_from: function step -> iterator of this host's batches from there on."""
    again = recomputed.Recomputed()

    def step(finished, seq_len, sums, seconds, input_s):
        run.skips.take(finished, seq_len, sums)
        sums = jax.tree.map(np.sum, sums)  # of several trainings at once
        run.checkpoints.check()
        again.take(sums)
        run.books.step(finished, seq_len, sums, seconds, input_s)
        run.clock.add_input_wait(input_s)
        if finished % run.books.every_steps == 0:
            run.clock.write(finished, within_s=hours.WRITE_S)

    def judge(finished, state):
        for sentence in (run.skips.report(run.mend), again.remark()):
            if sentence:
                run.books.say(f"warning: {sentence}")
        evaluate(finished, state)

    def is_decisive(begun):
        return run.skips.is_last_chance()  # so no sound step is under way when the patience is exhausted

    def save(finished, state):
        if run.skips.exhausted():
            run.books.write_lines(finished)
            run.books.flush()
            batches = batches_from(run.skips.steps[0][0])
            nonfinite.give_up(run.directory, run.skips, state, batches, run.facts, run.group, run.mend)
        meta = {"unlogged": run.books.unlogged(), "unreported_skips": run.skips.unreported}
        run.checkpoints.save(state, run.facts | meta)
        run.clock.mark_saved()
        run.clock.write(finished)

    def should_stop(begun):
        if run.skips.exhausted():  # on all hosts at once: they have the same sums
            return True
        if not run.group.stops(begun, run.stopping.signal):
            return False
        run.stopping.signal = run.group.signal
        return True

    def at(begun, doing):
        run.dog.at(begun, doing)
        # While a batch is fetched the devices may compute the step before: `step` gets the time that they waited.
        run.clock.enter("step" if doing == "input" else doing)

    return loop.Hooks(step, judge, save, run.profile.before, is_decisive, should_stop, at, run.books.say)
