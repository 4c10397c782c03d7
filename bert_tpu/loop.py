"""The loop of every training here: steps, with what happens beside them handed in as hooks."""

from collections.abc import Callable
import concurrent.futures
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bert_tpu import mesh as meshes
from bert_tpu.train import State, Sums


class Hooks(NamedTuple):
    """What happens beside the steps; each is called with the number of finished steps, `profile` with the next one.

    at: (step under way, what the loop turns to: "input", "step", "compile", "evaluation" or "checkpoint").
    report: prints a sentence.
    """

    step: Callable[[int, int, Sums, float, float], None]  # (step, seq_len, host sums, its seconds, its input wait)
    evaluate: Callable[[int, State], None]
    save: Callable[[int, State], None]
    profile: Callable[[int, State], bool]  # whether the devices had to wait for it
    is_decisive: Callable[[int], bool]  # whether the step has to be in the books before the next is dispatched
    should_stop: Callable[[int], bool]
    at: Callable[[int, str], None]
    report: Callable[[str], None] = print


class UnderWay(NamedTuple):
    """A step that was dispatched and is not in the books yet. All moments are of time.perf_counter."""

    step: int
    seq_len: int
    batch: dict  # on the devices
    finish: concurrent.futures.Future  # of (host sums, the moment when they were there)
    resumed_s: float  # the end of the last evaluation, save or trace before it
    asked_s: float  # when its batch was asked for
    got_s: float  # and when it came


def run(programs, mesh, state, batches, *, first_step, num_steps, eval_every, save_every, hooks) -> State:
    """Trains from `first_step` to `num_steps`, or until `should_stop`; saves at the end of either.

    Step n is dispatched before the sums of step n - 1 are in the books, so the devices never wait for these. A thread
    reads the sums and notes the moment when they are there, which is the step's end wherever steps are computed: in the
    background, or as they are called, as on CPUs (memory.keep).
    A step whose sums say `recomputed` has left a state that waits (train.jit_step). The exact program computes it
    before anything else looks at the state, and the step that was dispatched ahead is dispatched again.
    """
    under_way, finished_s, resumed_s = None, 0.0, time.perf_counter()
    exact = Exact(programs, hooks)

    def settle():
        """Hands the step under way, if there is one, to the books; returns whether it was computed again.

        Its seconds begin when the devices were free for it. Only from then on did they wait for its input.
        """
        nonlocal state, under_way, finished_s
        if under_way is None:
            return False
        sums, ended_s = under_way.finish.result()
        free_s = max(finished_s, under_way.resumed_s)
        input_s = max(0.0, under_way.got_s - max(under_way.asked_s, free_s))
        is_recomputed = bool(sums.get("recomputed", (0, 1))[0])
        if is_recomputed:
            state, sums, ended_s, compile_s = exact.step(under_way, state)
            free_s += compile_s
        hooks.step(under_way.step, under_way.seq_len, sums, ended_s - free_s, input_s)
        under_way, finished_s = None, ended_s
        return is_recomputed

    with concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="sums") as reader:
        for step in range(first_step + 1, num_steps + 1):
            if hooks.profile(step, state):
                resumed_s = time.perf_counter()
            hooks.at(step, "input")
            asked_s = time.perf_counter()
            seq_len, batch = next(batches)
            got_s = time.perf_counter()
            hooks.at(step, "step")
            batch = meshes.put(batch, mesh)
            state, sums = programs.step[seq_len](state, batch)
            finish = reader.submit(_read, sums)
            if settle():
                state, sums = programs.step[seq_len](state, batch)
                finish = reader.submit(_read, sums)
            under_way = UnderWay(step, seq_len, batch, finish, resumed_s, asked_s, got_s)
            if hooks.is_decisive(step):
                settle()
            stopping = step == num_steps or hooks.should_stop(step)
            saves, evaluates = stopping or step % save_every == 0, step == num_steps or step % eval_every == 0
            if saves or evaluates:
                settle()
                if evaluates:
                    hooks.at(step, "evaluation")
                    hooks.evaluate(step, state)
                if saves:
                    hooks.at(step, "checkpoint")
                    hooks.save(step, state)
                resumed_s = time.perf_counter()
            if stopping:
                break
    return state


class Exact:
    """The exact programs of a run, each compiled at its first use: on all hosts at once, since they read equal sums."""

    def __init__(self, programs, hooks):
        """Compiles nothing."""
        self._run, self._hooks, self._compiled = programs, hooks, {}

    def step(self, under_way, state):
        """Computes a step whose `state` waits: (next state, host sums, moment of its end, seconds of compilation)."""
        begun_s, seq_len = time.perf_counter(), under_way.seq_len
        if seq_len not in self._compiled:
            self._hooks.at(under_way.step, "compile")
            self._hooks.report(
                f"step {under_way.step:,}: a loss or gradient is not finite in the fast form of the softmax; compiling "
                f"the exact one for length {seq_len}, which computes such steps again ..."
            )
            self._compiled[seq_len] = self._run.compile_exact(seq_len)
            self._hooks.at(under_way.step, "step")
        compile_s = time.perf_counter() - begun_s
        state, sums = self._compiled[seq_len](state, under_way.batch)
        return state, *_read(sums | {"recomputed": (1.0, 1.0)}), compile_s


def _read(sums):
    """(Sums on the host, the moment when they were there.)"""
    return jax.device_get(sums), time.perf_counter()


def evaluate(programs, mesh, params, batches):
    """Sums over `batches`, by sequence length, on the host."""
    totals = {}
    for seq_len, batch in batches:
        sums = programs.evaluate[seq_len](params, meshes.put(batch, mesh))
        held = totals.get(seq_len)
        totals[seq_len] = sums if held is None else jax.tree.map(jnp.add, held, sums)
    return jax.device_get(totals)
