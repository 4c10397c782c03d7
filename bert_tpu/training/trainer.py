"""A run of any training here, from its claim on a workdir to its exit code."""

from collections.abc import Callable, Iterator
import concurrent.futures
import contextlib
import functools
import os
from typing import Any, NamedTuple

import jax

from bert_tpu.distributed import hosts, mesh, signals, watchdog
from bert_tpu.hardware import device_memory, energy
from bert_tpu.monitoring import hours, versions
from bert_tpu.tokenizer import vocab
from bert_tpu.training import checkpoint, compile_cache, hooks, jobs, loop, nonfinite, optim, train_step, workdir

# Keys of the config's sections that every run has, and the least of their values.
SECTIONS = {
    "checkpoint": ("every_steps", "keep_last", "keep_every"),
    "log": ("every_steps", "tensorboard"),
    "profile": ("first_step", "num_steps"),
    "nonfinite": ("stop_after",),
    "watchdog": ("silent_s", "stacks_s", "exit_s"),
}
MINIMA = {
    "accumulate": 1, "optim.learning_rate": 0, "optim.eps": 0, "optim.weight_decay": 0, "optim.clip_norm": 0,
    "checkpoint.every_steps": 1, "checkpoint.keep_last": 1, "checkpoint.keep_every": 0, "eval.every_steps": 1,
    "log.every_steps": 1, "profile.num_steps": 0, "nonfinite.stop_after": 0, "watchdog.silent_s": 2,
    "watchdog.stacks_s": 0, "watchdog.exit_s": 0,
}  # fmt: skip


class Data(NamedTuple):
    """What a run reads, once it is open."""

    batches_from: Callable[[int], Iterator]  # step -> (sequence length, this host's rows) from there on
    evaluate: Callable[[Any, Any, Any, Any, int], None]  # (programs, mesh, state, books, finished steps)
    note: str = ""  # to be said before the first step


class Training(NamedTuple):
    """What is trained and on what; `open_data` alone reads rows, while the programs compile."""

    job: jobs.Job
    schedule: Any  # has batch_size, before(step, length), rows(length), used_lens() and check_division(devices, parts)
    objectives: tuple[str, ...]  # the sums whose means add up to the loss
    facts: dict  # seed and hashes, which make it this run
    vocabulary: vocab.Vocab
    size: int  # parameters, as a person counts them
    first_params: Callable[[Any], Any] | None  # shapes and places -> those of step 0; None: drawn from the seed
    compile: Callable[[Any], train_step.Programs]  # of a mesh
    open_data: Callable[[int, hosts.Hosts], Data]  # of a number of devices; all hosts call it
    warmup: optim.WarmUp
    mend: str  # advice where the loss stays other than finite; {step} is where that began


def run(cfg, training, directory, group=None, *, free=(), age_s=0.0) -> int:
    """Trains in `directory`, from its newest checkpoint if it has one; returns the exit code.

    group: the Hosts that all run this, each with a call of its own; None: this process alone, `age_s` old by now.
    free: keys of the config that may differ between hosts.
    """
    group, this = group or hosts.Hosts(), training.job
    compile_cache.use(cfg.compile_cache)
    on = mesh.make(hosts.devices())
    training.schedule.check_division(on.size, cfg.accumulate)
    with (
        device_memory.explain_shortage(_mend(cfg)),
        watchdog.Watchdog(**cfg.watchdog, group=group) as dog,
        signals.Stop(group) as stopping,
        workdir.claim(directory, cfg.to_dict() | training.facts, group=group, free=free),
        contextlib.closing(
            checkpoint.Checkpoints(**cfg.checkpoint, directory=directory / "checkpoints", group=group)
        ) as checkpoints,
    ):
        if group.index == 0:
            workdir.put_tokenizer(directory, training.vocabulary)
        state, meta = start(this, on, checkpoints, training.first_params)
        first_step, writes = int(state.step), group.index == 0
        if writes:
            versions.record(directory, first_step, workdir.recorded(cfg.to_dict()))
        threads = os.cpu_count() * jax.process_count()
        units = energy.count_units(on.devices.flat[0].device_kind, on.size, threads)
        clock = hours.Hours(directory, writes=writes, units=units, age_s=age_s)
        with hooks.open_books(cfg, training, on, directory, first_step, meta, writes) as (books, profile):
            if first_step >= cfg.num_steps:
                books.say(f"{directory} has all {cfg.num_steps:,} steps already")
                return 0
            clock.resume(first_step)
            dog.at(first_step, "compile")
            clock.enter("compile")
            programs, opened = _make_ready(cfg, training, on, state, books, group)
            stopping.wait_for_loop()
            sides = hooks.Beside(
                directory, training.facts, training.mend, group, stopping, dog, checkpoints, clock,
                nonfinite.Skips(**cfg.nonfinite, unreported=meta.get("unreported_skips")), books, profile,
            )  # fmt: skip
            state = loop.run(
                programs, on, state, opened.batches_from(first_step), first_step=first_step, num_steps=cfg.num_steps,
                eval_every=cfg.eval.every_steps, save_every=checkpoints.every_steps,
                hooks=hooks.hooks(
                    sides, lambda finished, state: opened.evaluate(programs, on, state, books, finished),
                    opened.batches_from,
                ),
            )  # fmt: skip
            checkpoints.wait()
            clock.write(int(state.step))
            books.say(clock.summary())
            if stopping.requested() and state.step < cfg.num_steps:
                books.say(f"stopped; step {int(state.step):,} is saved and the same command goes on from there")
    return stopping.exit_code()


def _mend(cfg):
    """What helps where a device's memory is too small."""
    fewer = "train fewer of config.seeds at once, " if "seeds" in cfg else ""
    return f"compute a batch in more parts (config.accumulate is {cfg.accumulate}), {fewer}or lower config.batch_size"


def start(this, on, checkpoints, first_params=None) -> tuple[jobs.State, dict]:
    """The newest checkpoint's state and meta; without one step 0, with `first_params` of the parameters' likes."""
    abstract = like(this, on)
    restored = checkpoints.restore(abstract)
    if restored is not None:
        return restored
    placed = jax.tree.map(lambda x: x.sharding, abstract)
    params = first_params(abstract.params) if first_params else None
    new_state = jax.jit(functools.partial(jobs.new_state, this), out_shardings=placed, donate_argnums=0)
    return new_state(params), {"unlogged": {}}


def like(this, on):
    """Shapes, types and places of a State: what is saved is restored as that, on whatever devices it was before."""

    def placed(x, place):
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)

    return jax.tree.map(placed, this.state_shapes, train_step.shardings(this, on))


def _make_ready(cfg, training, on, state, books, group):
    """The compiled programs and the Data."""
    lens = ", ".join(map(str, training.schedule.used_lens()))
    books.say(
        f"{on.size} x {on.devices.flat[0].device_kind}, {training.size:,} parameters, step {int(state.step):,} of "
        f"{cfg.num_steps:,}; compiling for lengths {lens} ..."
    )
    if sentence := optim.unreached(training.job.learning_rate, cfg.optim.learning_rate, training.warmup, cfg.num_steps):
        books.say(f"warning: {sentence}")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        compiling = pool.submit(training.compile, on)
        opened = training.open_data(on.size, group)  # meanwhile
        if opened.note:
            books.say(opened.note)
        return compiling.result(), opened
