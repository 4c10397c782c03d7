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

    at: (step under way, what the loop turns to: "input", "step", "evaluation" or "checkpoint").
    """

    step: Callable[[int, int, Sums, float, float], None]  # (step, seq_len, host sums, seconds, seconds of input wait)
    evaluate: Callable[[int, State], None]
    save: Callable[[int, State], None]
    profile: Callable[[int, State], None]
    should_stop: Callable[[int], bool]
    at: Callable[[int, str], None]


def run(programs, mesh, state, batches, *, first_step, num_steps, eval_every, save_every, hooks) -> State:
    """Trains from `first_step` to `num_steps`, or until `should_stop`; saves at the end of either.

    Step n is dispatched before the sums of step n - 1 are read, so the devices never wait for the host's books.
    """
    waiting, finished_s, input_s = None, time.perf_counter(), 0.0

    def settle():
        """Reads the sums of the step that waits for it.

        Its seconds are those since the last step's end, and the input that was waited for in them is the next step's.
        """
        nonlocal waiting, finished_s, input_s
        if waiting is not None:
            step, seq_len, sums = waiting
            sums = jax.device_get(sums)
            now = time.perf_counter()
            hooks.step(step, seq_len, sums, now - finished_s, input_s)
            waiting, finished_s, input_s = None, now, 0.0

    for step in range(first_step + 1, num_steps + 1):
        hooks.profile(step, state)
        hooks.at(step, "input")
        asked_s = time.perf_counter()
        seq_len, batch = next(batches)
        input_s += time.perf_counter() - asked_s
        hooks.at(step, "step")
        state, sums = programs.step[seq_len](state, meshes.put(batch, mesh))
        settle()
        waiting = step, seq_len, sums
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


def evaluate(programs, mesh, params, batches):
    """Sums over `batches`, by sequence length, on the host."""
    totals = {}
    for seq_len, batch in batches:
        sums = programs.evaluate[seq_len](params, meshes.put(batch, mesh))
        held = totals.get(seq_len)
        totals[seq_len] = sums if held is None else jax.tree.map(jnp.add, held, sums)
    return jax.device_get(totals)
