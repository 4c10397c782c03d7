"""A run of any training here, from its claim on a workdir to its exit code."""

from collections.abc import Callable, Collection, Mapping
import concurrent.futures
import contextlib
import functools
import itertools
from typing import Any, NamedTuple

from etils import epath
import jax
from jax.sharding import Mesh, NamedSharding
import ml_collections

from bert_tpu.core import numerals, processors
from bert_tpu.distributed import hosts, signals
from bert_tpu.distributed import mesh as meshes
from bert_tpu.distributed import watchdog as watchdogs
from bert_tpu.hardware import device_memory, energy
from bert_tpu.monitoring import hours, log, profiles, trackers, versions
from bert_tpu.tokenizer import vocab
from bert_tpu.training import (
    checkpoint,
    checkpoint_steps,
    compile_cache,
    hooks,
    jobs,
    loop,
    nonfinite,
    optim,
    train_step,
    workdir,
)

MINUTE_S = 60.0  # a run that compiles says so this often
# Keys of the config's sections that every run has, and the least of their values.
SECTIONS = {
    "checkpoint": ("every_steps", "keep_last", "keep_every"),
    "log": ("every_steps", "to"),
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
    """The data that a run reads."""

    batches_from: hooks.BatchesFrom
    evaluate: Callable[[train_step.Programs, Mesh, jobs.State, log.Log, int], None]  # the int: finished steps
    note: str = ""  # printed before the first step
    # Sequence length -> examples of a full batch, the mean of the corpus; the schedule's batch_size for other lengths.
    examples: Mapping[int, float] = {}


class Training(NamedTuple):
    """A Job with its data and facts. Only `open_data` reads rows, while the programs compile."""

    job: jobs.Job
    schedule: jobs.Schedule
    objectives: tuple[str, ...]  # sums whose means the log adds up as "loss"; a teacher's are not among them
    facts: dict[str, Any]  # seed and hashes, which identify the run
    vocabulary: vocab.Vocab
    size: int  # number of parameters, without padding
    first_params: Callable[[jobs.Params], jobs.Params] | None  # from shapes and shardings; None: drawn from the seed
    compile_programs: Callable[[Mesh, int], train_step.Programs]  # those of the steps from the int on
    open_data: Callable[[int, hosts.Hosts], Data]  # from a number of devices; all hosts call it
    peak: optim.Peak
    warmup: optim.WarmUp
    advice: str  # what to do if the loss stays not finite; {step} in it is the first such step


def run(
    cfg: ml_collections.ConfigDict, training: Training, directory: epath.Path, group: hosts.Hosts | None = None,
    *, local_keys: Collection[str] = (), began_s: float | None = None,
) -> int:  # fmt: skip
    """Trains in `directory`, from its newest checkpoint if it has one; returns the exit code (distributed.signals).

    cfg, training: the run's config, and what it means
    directory: the workdir
    group: the hosts that all call this; None: this process alone
    local_keys: keys of the config that may differ between hosts
    began_s: moment when this process began, by time.monotonic; None: now
    """
    trackers.check(cfg.log.to)
    group = group or hosts.Hosts()
    writes = group.index == 0
    compile_cache.use(cfg.compile_cache)
    mesh = meshes.make(hosts.devices())
    resumed = max(checkpoint_steps.of_workdir(directory), default=0)  # `_prepare` checks the step that is restored
    training.schedule.check_division(mesh.size, training.job.accumulate, resumed)
    with (
        device_memory.explain_shortage(_memory_advice(cfg)),
        watchdogs.Watchdog(**cfg.watchdog, group=group) as watchdog,
        signals.StopSignals(group) as stop_signals,
        workdir.claim(directory, cfg.to_dict() | training.facts, group=group, local_keys=local_keys),
        contextlib.closing(
            checkpoint.Checkpoints(**cfg.checkpoint, directory=directory / "checkpoints", group=group)
        ) as checkpoints,
        contextlib.closing(profiles.Profile(**cfg.profile, directory=directory / "profile")) as profile,
    ):
        state, meta = restore_or_init(training.job, mesh, checkpoints, training.first_params)
        first_step = int(state.step)
        if writes:
            workdir.write_tokenizer(directory, training.vocabulary)
            versions.record(directory, first_step, workdir.recorded_keys(cfg.to_dict()))
        clock = hours.Hours(directory, writes=writes, units=_power_units(mesh), began_s=began_s)
        run_log = _make_log(cfg, training, mesh, directory, first_step, meta["unlogged"], writes)
        with contextlib.closing(run_log):
            if first_step >= cfg.num_steps:
                run_log.say(f"{directory} has all {cfg.num_steps:,} steps already")
                return 0
            clock.resume(first_step)
            watchdog.enter_phase(first_step, "compile")
            clock.enter("compile")
            clock.write(first_step)
            programs, data = _prepare(cfg, training, mesh, first_step, run_log, group, watchdog)
            stop_signals.let_loop_save()
            skipped = nonfinite.SkippedSteps(**cfg.nonfinite, unreported=meta.get("unreported_skips"))
            services = hooks.Services(
                directory, training.facts, training.advice, group, stop_signals, watchdog, checkpoints, clock, skipped,
                run_log, profile,
            )  # fmt: skip
            state = loop.run(
                programs, mesh, state, data.batches_from(first_step), first_step=first_step, num_steps=cfg.num_steps,
                eval_every=cfg.eval.every_steps, save_every=checkpoints.every_steps,
                hooks=hooks.make(
                    services, lambda finished, state: data.evaluate(programs, mesh, state, run_log, finished),
                    data.batches_from,
                ),
            )  # fmt: skip
            _finish(services, int(state.step), cfg.num_steps)
    return stop_signals.exit_code()


def _finish(services: hooks.Services, step: int, num_steps: int) -> None:
    """Waits until the last checkpoint, that of `step`, is on disk, and prints how the run ended."""
    services.checkpoints.wait()
    services.clock.write(step)
    services.run_log.say(services.clock.summary())
    if services.stop_signals.is_requested() and step < num_steps:
        services.run_log.say(f"stopped; step {step:,} is saved and the same command goes on from there")


def _memory_advice(cfg: ml_collections.ConfigDict) -> str:
    """Returns what to do if a device's memory is too small."""
    fewer = "train fewer of config.seeds at once, " if "seeds" in cfg else ""
    long = f", config.accumulate_long {cfg.accumulate_long} for the longer rows" if "accumulate_long" in cfg else ""
    parts = f"config.accumulate is {cfg.accumulate}{long}"
    return f"compute a batch in more parts ({parts}), {fewer}or lower config.batch_size"


def _power_units(mesh: Mesh) -> dict[str, int]:
    """Returns the number of each kind of unit that draws power: chips, or CPU threads of all hosts."""
    threads = processors.available() * jax.process_count()
    return energy.count_units(mesh.devices.flat[0].device_kind, mesh.size, threads)


def _make_log(
    cfg: ml_collections.ConfigDict,
    training: Training,
    mesh: Mesh,
    directory: epath.Path,
    first_step: int,
    unlogged: dict[str, jobs.HostSums],
    writes: bool,
) -> log.Log:
    """Returns the run's Log. directory: the workdir; first_step, unlogged, writes: as in log.Log"""
    job, schedule, peak = training.job, training.schedule, meshes.peak_flops(mesh)
    return log.Log(
        **cfg.log, workdir=directory, first_step=first_step, num_steps=cfg.num_steps,
        batch_size=schedule.batch_size, rows=schedule.rows, batch_share=schedule.batch_share,
        objectives=training.objectives, learning_rate=job.learning_rate,
        work=functools.partial(jobs.work, job, schedule),
        peak_s={n: flops / peak for n, flops in job.flops.items()} if peak else {},
        update_s=job.update_flops / peak if peak else 0.0,
        unlogged=unlogged, config=workdir.flatten(cfg.to_dict()), writes=writes,
    )  # fmt: skip


def restore_or_init(
    job: jobs.Job,
    mesh: Mesh,
    checkpoints: checkpoint.Checkpoints,
    first_params: Callable[[jobs.Params], jobs.Params] | None = None,
) -> tuple[jobs.State, dict[str, Any]]:
    """Returns the state and meta of the newest checkpoint, or those of step 0 if there is none.

    job: what is trained
    mesh: devices that the state is placed on
    checkpoints: those of the run
    first_params: function (shapes and shardings of the parameters) -> parameters of step 0; None: the job draws them
    """
    abstract = abstract_state(job, mesh)
    restored = checkpoints.restore(abstract)
    if restored is not None:
        return restored
    shardings = jax.tree.map(lambda x: x.sharding, abstract)
    params = first_params(abstract.params) if first_params else None
    new_state = jax.jit(functools.partial(jobs.new_state, job), out_shardings=shardings, donate_argnums=0)
    return new_state(params, job.seed_array), {"unlogged": {}}


def abstract_state(job: jobs.Job, mesh: Mesh) -> jobs.State:
    """Returns a State of jax.ShapeDtypeStruct: shapes, types and shardings on `mesh`.

    A checkpoint from any number of devices is restored in this form.
    """

    def abstract(x: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(abstract, job.state_shapes, train_step.shardings(job, mesh))


def _prepare(
    cfg: ml_collections.ConfigDict,
    training: Training,
    mesh: Mesh,
    first_step: int,
    run_log: log.Log,
    group: hosts.Hosts,
    watchdog: watchdogs.Watchdog,
) -> tuple[train_step.Programs, Data]:
    """Compiles the programs and opens the data at the same time."""
    training.schedule.check_division(mesh.size, training.job.accumulate, first_step)
    lens = ", ".join(map(str, training.schedule.used_lens()))
    run_log.say(
        f"{mesh.size} x {mesh.devices.flat[0].device_kind}, {training.size:,} parameters, step {first_step:,} of "
        f"{cfg.num_steps:,}; compiling for lengths {lens} ..."
    )
    if training.peak.formula:
        run_log.say(f"peak learning rate {training.peak.rate:.3g}: {training.peak.formula}")
    rate = training.job.learning_rate
    if warning := optim.unreached_peak(rate, training.peak, training.warmup, cfg.num_steps):
        run_log.say(f"warning: {warning}")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        compiling = pool.submit(training.compile_programs, mesh, first_step)
        data = training.open_data(mesh.size, group)
        if data.note:
            run_log.say(data.note)
        run_log.examples.update(data.examples)
        for minutes in itertools.count(1):
            if concurrent.futures.wait([compiling], timeout=MINUTE_S).done:
                break
            run_log.say(f"still compiling, after {numerals.count(minutes, 'minute')}")
        programs = compiling.result()
    watched = {n: watchdog.watched(function) for n, function in programs.evaluate.items()}
    return programs._replace(evaluate=watched), data
