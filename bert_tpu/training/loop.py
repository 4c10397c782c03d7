"""The loop of every training here: steps, and the hooks that a run adds around them."""

from collections.abc import Callable, Iterable, Iterator
import concurrent.futures
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from bert_tpu.distributed import mesh as meshes
from bert_tpu.training import jobs, train_step


class Hooks(NamedTuple):
    """The functions that the loop calls around its steps.

    Each gets the number of finished steps first, but `profile`, `is_decisive`, `should_stop` and `enter_phase` get the
    number of the step under way, counted from 1.
    """

    step: Callable[[int, int, jobs.HostSums, float, float], None]  # (step, seq_len, sums, its seconds, its input wait)
    evaluate: Callable[[int, jobs.State], None]
    save: Callable[[int, jobs.State], None]
    profile: Callable[[int, jobs.State], bool]  # returns whether the devices had to wait for it
    is_decisive: Callable[[int], bool]  # returns whether `step` must get its sums before the next is dispatched
    should_stop: Callable[[int], bool]  # returns whether the run saves and ends after this step
    enter_phase: Callable[[int, str], None]  # phase: "input", "step", "evaluation" or "checkpoint"


class UnderWay(NamedTuple):
    """A step that was dispatched and whose sums the hooks do not have yet. Moments are of time.perf_counter."""

    step: int
    seq_len: int
    finish: concurrent.futures.Future[tuple[jobs.HostSums, float]]  # of (sums, the moment when they were ready)
    resumed_s: float  # the end of the last evaluation, save or trace before it
    asked_s: float  # when its batch was asked for
    got_s: float  # when its batch came


def run(
    programs: train_step.Programs,
    mesh: Mesh,
    state: jobs.State,
    batches: Iterator[tuple[int, jobs.Batch]],
    *,
    first_step: int,
    num_steps: int,
    eval_every: int,
    save_every: int,
    hooks: Hooks,
) -> jobs.State:
    """Trains from `first_step` to `num_steps`, or until `should_stop`; saves at the end of either. Returns the state.

    Step n is dispatched before the hooks have the sums of step n - 1, so the devices never wait for the hooks.
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="sums") as reader:
        steps = Steps(programs, state, reader, hooks)
        for step in range(first_step + 1, num_steps + 1):
            if hooks.profile(step, steps.state):
                steps.resume()
            hooks.enter_phase(step, "input")
            asked_s = time.perf_counter()
            seq_len, batch = next(batches)
            got_s = time.perf_counter()
            hooks.enter_phase(step, "step")
            steps.dispatch(step, seq_len, meshes.put_batch(batch, mesh), asked_s, got_s)
            if hooks.is_decisive(step):
                steps.settle()
            stopping = step == num_steps or hooks.should_stop(step)
            saves, evaluates = stopping or step % save_every == 0, step == num_steps or step % eval_every == 0
            if saves or evaluates:
                steps.settle()
                if evaluates:
                    hooks.enter_phase(step, "evaluation")
                    hooks.evaluate(step, steps.state)
                if saves:
                    hooks.enter_phase(step, "checkpoint")
                    hooks.save(step, steps.state)
                steps.resume()
            if stopping:
                break
    return steps.state


class Steps:
    """The state of a training, and the one step that is under way: dispatched, but not settled.

    Where a step is computed in its call, as on CPUs (host_memory.keep_freed_memory), it ends as the call returns.
    Elsewhere a thread reads the sums and notes the moment when they are ready.
    """

    def __init__(
        self, programs: train_step.Programs, state: jobs.State, reader: concurrent.futures.Executor, hooks: Hooks
    ) -> None:
        """Begins with no step under way. reader: an executor of one thread."""
        self.state = state
        self._programs, self._reader, self._hooks = programs, reader, hooks
        self._under_way: UnderWay | None = None
        self._finished_s, self._resumed_s = 0.0, time.perf_counter()

    def resume(self) -> None:
        """Notes the end of an evaluation, save or trace, whose time belongs to no step."""
        self._resumed_s = time.perf_counter()

    def dispatch(self, step: int, seq_len: int, batch: jobs.Batch, asked_s: float, got_s: float) -> None:
        """Begins a step and settles the one before.

        step: its number, counted from 1
        seq_len: tokens of a row
        batch: on the devices
        asked_s: moment when the batch was asked for, of time.perf_counter
        got_s: moment when the batch came
        """
        rows = jax.tree.leaves(batch)[0].shape[0]
        self.state, sums = self._programs.step[seq_len, rows](self.state, batch)
        called_s = time.perf_counter()
        # If the step was computed in its call it has ended here, even if the thread gets its turn much later.
        arrays = [leaf for leaf in jax.tree.leaves(sums) if isinstance(leaf, jax.Array)]
        is_over = all(array.is_ready() for array in arrays)  # type: ignore[attr-defined]  # in jaxlib, not in the stub
        finish = self._reader.submit(_read, sums, called_s if is_over else None)
        self.settle()
        self._under_way = UnderWay(step, seq_len, finish, self._resumed_s, asked_s, got_s)

    def settle(self) -> None:
        """Hands the sums of the step under way, if there is one, to the hooks.

        A step's time starts when the devices are free for it; an earlier wait for its batch does not count.
        """
        if self._under_way is None:
            return
        under_way, self._under_way = self._under_way, None
        sums, ended_s = under_way.finish.result()
        free_s = max(self._finished_s, under_way.resumed_s)
        input_s = max(0.0, under_way.got_s - max(under_way.asked_s, free_s))
        self._finished_s = ended_s
        self._hooks.step(under_way.step, under_way.seq_len, sums, ended_s - free_s, input_s)


def _read(sums: jobs.Sums, ended_s: float | None) -> tuple[jobs.HostSums, float]:
    """Returns (sums on the host, the moment when they were ready): `ended_s`, or the moment when they are read."""
    on_host = jax.device_get(sums)
    ended_s = ended_s or time.perf_counter()
    return {name: (total, count) for name, (total, count) in on_host.items()}, ended_s


def evaluate(
    programs: train_step.Programs, mesh: Mesh, params: jobs.Params, batches: Iterable[tuple[int, jobs.Batch]]
) -> dict[int, jobs.HostSums]:
    """Returns sequence length -> sums over its `batches`, on the host. batches: (sequence length, this host's rows)."""
    totals: dict[int, jobs.Sums] = {}
    for seq_len, batch in batches:
        sums = programs.evaluate[seq_len](params, meshes.put_batch(batch, mesh))
        if seq_len in totals:
            jax.block_until_ready(totals[seq_len])  # at most two batches are under way, so each call is progress
            sums = jax.tree.map(jnp.add, totals[seq_len], sums)
        totals[seq_len] = sums
    return jax.device_get(totals)
