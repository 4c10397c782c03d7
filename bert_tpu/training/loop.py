"""The loop of every training here: steps, with what happens beside them handed in as hooks."""

from collections.abc import Callable
import concurrent.futures
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bert_tpu.distributed import mesh as meshes
from bert_tpu.training.jobs import State, Sums


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

    Step n is dispatched before the sums of step n - 1 are in the books, so the devices never wait for these.
    """
    with concurrent.futures.ThreadPoolExecutor(max_workers=1, thread_name_prefix="sums") as reader:
        steps = Steps(programs, state, reader, hooks)
        for step in range(first_step + 1, num_steps + 1):
            if hooks.profile(step, steps.state):
                steps.resume()
            hooks.at(step, "input")
            asked_s = time.perf_counter()
            seq_len, batch = next(batches)
            got_s = time.perf_counter()
            hooks.at(step, "step")
            steps.dispatch(step, seq_len, meshes.put(batch, mesh), asked_s, got_s)
            if hooks.is_decisive(step):
                steps.settle()
            stopping = step == num_steps or hooks.should_stop(step)
            saves, evaluates = stopping or step % save_every == 0, step == num_steps or step % eval_every == 0
            if saves or evaluates:
                steps.settle()
                if evaluates:
                    hooks.at(step, "evaluation")
                    hooks.evaluate(step, steps.state)
                if saves:
                    hooks.at(step, "checkpoint")
                    hooks.save(step, steps.state)
                steps.resume()
            if stopping:
                break
    return steps.state


class Steps:
    """The state of a training, and the one step that is under way: dispatched, and not in the books yet.

    A step ends as its call returns, where steps are computed as they are called, as on CPUs
    (host_memory.keep_freed_memory). Elsewhere a thread reads the sums and notes the moment when they are there.
    """

    def __init__(self, programs, state, reader, hooks):
        """No step is under way. reader: an executor of one thread."""
        self.state = state
        self._programs, self._reader, self._hooks, self._exact = programs, reader, hooks, Exact(programs, hooks)
        self._under_way, self._finished_s, self._resumed_s = None, 0.0, time.perf_counter()

    def resume(self):
        """Notes the end of an evaluation, save or trace: it belongs to no step."""
        self._resumed_s = time.perf_counter()

    def dispatch(self, step, seq_len, batch, asked_s, got_s):
        """Begins a step on a batch that is on the devices, and settles the one before.

        asked_s, got_s: the moments when the batch was asked for and when it came, of time.perf_counter.
        """
        finish = self._compute(seq_len, batch)
        if self.settle():
            finish = self._compute(seq_len, batch)
        self._under_way = UnderWay(step, seq_len, batch, finish, self._resumed_s, asked_s, got_s)

    def settle(self) -> bool:
        """Hands the step under way, if there is one, to the books; returns whether it was computed again.

        Its seconds begin when the devices were free for it. Only from then on did they wait for its input.
        A step whose sums say `recomputed` has left a state that waits (train.jit_step). The exact program computes it
        before anything else looks at the state. A step that was dispatched ahead has changed nothing.
        """
        if self._under_way is None:
            return False
        under_way, self._under_way = self._under_way, None
        sums, ended_s = under_way.finish.result()
        free_s = max(self._finished_s, under_way.resumed_s)
        input_s = max(0.0, under_way.got_s - max(under_way.asked_s, free_s))
        is_recomputed = bool(sums.get("recomputed", (0, 1))[0])
        if is_recomputed:
            self.state, sums, ended_s, compile_s = self._exact.step(under_way, self.state)
            free_s += compile_s
        self._finished_s = ended_s
        self._hooks.step(under_way.step, under_way.seq_len, sums, ended_s - free_s, input_s)
        return is_recomputed

    def _compute(self, seq_len, batch):
        self.state, sums = self._programs.step[seq_len](self.state, batch)
        called_s = time.perf_counter()
        # A step that was computed as it was called has ended here, however late the thread has its turn.
        is_over = all(leaf.is_ready() for leaf in jax.tree.leaves(sums) if isinstance(leaf, jax.Array))
        return self._reader.submit(_read, sums, called_s if is_over else None)


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


def _read(sums, ended_s=None):
    """(Sums on the host, the moment when they were there): `ended_s`, or as soon as they are read."""
    return jax.device_get(sums), ended_s or time.perf_counter()


def evaluate(programs, mesh, params, batches):
    """Sums over `batches`, by sequence length, on the host."""
    totals = {}
    for seq_len, batch in batches:
        sums = programs.evaluate[seq_len](params, meshes.put(batch, mesh))
        held = totals.get(seq_len)
        totals[seq_len] = sums if held is None else jax.tree.map(jnp.add, held, sums)
    return jax.device_get(totals)
