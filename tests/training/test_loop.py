"""The loop credits each step with its own seconds and its own wait for input, and settles steps in order."""

import json
import os
import statistics
import subprocess
import sys
import threading
from types import SimpleNamespace

from conftest import ROOT
from helpers import timed_loop
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.distributed import mesh
from bert_tpu.hardware import device_memory
from bert_tpu.training import loop

MODES = ["sync", "async"]  # how XLA:CPU computes a step: in its call, or in the background like a TPU


def credited(mode, short_ms, long_ms, short_input_ms, long_input_ms):
    """Returns [step, length, seconds, input wait] of each step of helpers/timed_loop.py."""
    costs = map(str, (short_ms, long_ms, short_input_ms, long_input_ms))
    setting = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, ROOT / "tests/helpers/timed_loop.py", mode, *costs],
        env=setting,
        check=True,
        capture_output=True,
        text=True,
    )
    result = json.loads(done.stdout)
    assert (result["called_share"] > 0.5) == (mode == "sync"), "the mode is not what it is called"
    assert [step for step, *_ in result["credited"]] == list(range(1, timed_loop.STEPS + 1))
    return result["credited"]


def by_length(steps):
    """Returns sequence length -> (seconds of its steps, their input waits), without the first two steps."""
    return {
        length: tuple(zip(*[pair for step, n, *pair in steps if n == length and step > 2], strict=True))
        for length in (8, 16)
    }


# Bounds are wide: on a busy machine a step of 10 ms may take 80, and its end may be noted just as late.


@pytest.mark.parametrize("mode", MODES)
def test_each_length_has_the_seconds_of_its_own_steps(mode):
    steps = by_length(credited(mode, 10, 200, 0, 0))
    of = {length: statistics.median(seconds) for length, (seconds, _) in steps.items()}
    assert 3 < of[16] / of[8] < 60, of


@pytest.mark.parametrize("mode", MODES)
def test_each_length_has_the_wait_for_its_own_input_as_far_as_the_device_waited(mode):
    """The input of every second step takes 120 ms, of which a step in the background hides 40."""
    (short, short_wait), (long, long_wait) = by_length(credited(mode, 40, 40, 0, 120)).values()
    assert statistics.median(short_wait) < 0.02
    if mode == "sync":
        assert statistics.median(long_wait) > 0.1
    else:
        assert min(long_wait) < 0.115
        assert max(long_wait) > 0.02  # where the machine is busy, most steps take longer than their input
    computed = statistics.median(seconds - wait for seconds, wait in zip(long, long_wait, strict=True))
    assert 0.25 < computed / statistics.median(short) < 4
    assert all(wait <= seconds for seconds, wait in zip(short + long, short_wait + long_wait, strict=True))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("between", [timed_loop.EVALUATE_EVERY, timed_loop.SAVE_EVERY])
def test_no_step_is_credited_with_an_evaluation_or_a_save(mode, between):
    """They take 80 ms each, and a step 5."""
    seconds = {step: seconds for step, _, seconds, _ in credited(mode, 5, 5, 0, 0)}
    assert min(seconds[step + 1] for step in range(between, timed_loop.STEPS, between)) < 0.06
    assert min(seconds[step] for step in range(between, timed_loop.STEPS, between)) < 0.06


def hooks(**changes):
    nothing = dict.fromkeys(loop.Hooks._fields, lambda *_: False)
    return loop.Hooks(**nothing | changes)


def run(program, **changes):
    """Runs six steps of the function `program` on eight devices."""
    batches, programs = iter([(8, {"ids": np.zeros((8, 8), np.int32)})] * 6), SimpleNamespace(step={(8, 8): program})
    return loop.run(
        programs, mesh.make(jax.devices()), jnp.zeros(()), batches, first_step=0, num_steps=6,
        eval_every=10, save_every=10, hooks=hooks(**changes),
    )  # fmt: skip


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sums")]


def test_a_step_is_dispatched_before_the_hooks_get_the_sums_of_the_one_before():
    order = []

    def step(state, batch):
        order.append("dispatched")
        return state + 1, {"number": (state + 1, 1)}

    def book(number, seq_len, sums, seconds, input_s):
        assert (float(sums["number"][0]), threads()) == (number, ["sums_0"])
        order.append("handed_over")

    assert float(run(step, step=book)) == 6
    assert order == ["dispatched", *["dispatched", "handed_over"] * 5, "handed_over"]
    assert threads() == []


class Broken:
    """An array of a device that has failed in the background: JAX raises as it is read."""

    def __array__(self):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")


def test_a_fault_of_a_device_comes_out_of_the_loop_and_the_thread_ends():
    called, handed_over = [], []

    def program(state, batch):
        called.append(len(called) + 1)
        return state + 1, {"loss": (Broken() if called[-1] == 3 else jnp.zeros(()), 1)}

    with (
        pytest.raises(command.UserError, match="a device's memory is too small; take less"),
        device_memory.explain_shortage("take less"),
    ):
        run(program, step=lambda step, *_: handed_over.append(step))
    assert (called, handed_over) == ([1, 2, 3, 4], [1, 2])
    assert threads() == []


def test_a_fault_of_a_hook_comes_out_of_the_loop_and_the_thread_ends():
    def stop(number):
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        run(lambda state, batch: (state, {}), should_stop=stop)
    assert threads() == []
