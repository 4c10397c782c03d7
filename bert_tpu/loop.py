"""The loop of every training here: steps, with what happens beside them handed in as hooks."""

from collections.abc import Callable
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

    step: Callable[[int, int, Sums, float, float], None]  # (step, seq_len, host sums, seconds, seconds of input wait)
    evaluate: Callable[[int, State], None]
    save: Callable[[int, State], None]
    profile: Callable[[int, State], None]
    should_stop: Callable[[int], bool]
    at: Callable[[int, str], None]
    report: Callable[[str], None] = print


def run(programs, mesh, state, batches, *, first_step, num_steps, eval_every, save_every, hooks) -> State:
    """Trains from `first_step` to `num_steps`, or until `should_stop`; saves at the end of either.

    Step n is dispatched before the sums of step n - 1 are read, so the devices never wait for the host's books. A step
    whose sums say `recomputed` is computed again by the exact program, and the one dispatched after it as well, by its
    own (train.jit_step).
    """
    waiting, finished_s, input_s = None, time.perf_counter(), 0.0
    exact = Exact(programs, hooks)

    def settle():
        """Reads the sums of the step that waits for it; returns whether it was computed again.

        Its seconds are those since the last step's end, and the input that was waited for in them is the next step's.
        """
        nonlocal state, waiting, finished_s, input_s
        is_recomputed = False
        if waiting is not None:
            step, seq_len, batch, sums = waiting
            sums = jax.device_get(sums)
            if is_recomputed := bool(sums.get("recomputed", (0, 1))[0]):
                state, sums = exact.step(step, seq_len, state, batch)
            now = time.perf_counter()
            hooks.step(step, seq_len, sums, now - finished_s, input_s)
            waiting, finished_s, input_s = None, now, 0.0
        return is_recomputed

    for step in range(first_step + 1, num_steps + 1):
        hooks.profile(step, state)
        hooks.at(step, "input")
        asked_s = time.perf_counter()
        seq_len, batch = next(batches)
        input_s += time.perf_counter() - asked_s
        hooks.at(step, "step")
        batch = meshes.put(batch, mesh)
        state, sums = programs.step[seq_len](state, batch)
        if settle():
            state, sums = programs.step[seq_len](state, batch)
        waiting = step, seq_len, batch, sums
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
            finished_s = time.perf_counter()
        if stopping:
            break
    return state


class Exact:
    """The exact programs of a run, each compiled at its first use: on all hosts at once, since they read equal sums."""

    def __init__(self, programs, hooks):
        """Compiles nothing."""
        self._compile, self._hooks, self._programs = programs.compile_exact, hooks, {}

    def step(self, step, seq_len, state, batch):
        """Computes a step whose state waits: the next state, and the sums on the host."""
        if seq_len not in self._programs:
            self._hooks.at(step, "compile")
            self._hooks.report(
                f"step {step:,}: a loss or gradient is not finite in the fast form of the softmax; compiling the exact "
                f"one for length {seq_len}, which computes such steps again ..."
            )
            self._programs[seq_len] = self._compile(seq_len)
            self._hooks.at(step, "step")
        state, sums = self._programs[seq_len](state, batch)
        return state, jax.device_get(sums) | {"recomputed": (1.0, 1.0)}


def evaluate(programs, mesh, params, batches):
    """Sums over `batches`, by sequence length, on the host."""
    totals = {}
    for seq_len, batch in batches:
        sums = programs.evaluate[seq_len](params, meshes.put(batch, mesh))
        held = totals.get(seq_len)
        totals[seq_len] = sums if held is None else jax.tree.map(jnp.add, held, sums)
    return jax.device_get(totals)
