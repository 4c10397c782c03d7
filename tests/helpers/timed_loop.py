"""Runs the loop on steps of two lengths whose costs are known, and prints the times that it credits to each step.

python tests/helpers/timed_loop.py MODE SHORT_MS LONG_MS SHORT_INPUT_MS LONG_INPUT_MS

MODE: "sync" computes a step in its call, "async" in the background. Steps of 8 and 16 tokens alternate. SHORT_MS and
LONG_MS: milliseconds that the device computes. SHORT_INPUT_MS and LONG_INPUT_MS: milliseconds that the input sleeps.
Evaluations and saves take 80 ms.
"""

import json
import statistics
import sys
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np

from bert_tpu.core import joined
from bert_tpu.distributed import mesh
from bert_tpu.training import loop

BETWEEN_S = 0.08
STEPS, EVALUATE_EVERY, SAVE_EVERY = 24, 7, 5
PROBES = 7
IDS = {"ids": np.zeros((8, 8), np.int32)}


def program(turns):
    """Returns a compiled step of `turns` turns of one loop."""

    def step(state, batch):
        total = jax.lax.fori_loop(0, turns, lambda _, x: jnp.sin(x @ x), jnp.full((32, 32), state))
        state = state + 0 * (total[0, 0] + jnp.sum(batch["ids"]))
        return state, {"loss": (state, jnp.ones(()))}

    shapes = jax.ShapeDtypeStruct((), np.float32), joined.abstract({"ids": (8, 8)}, np.int32)
    return jax.jit(step, donate_argnums=0).lower(*shapes).compile()


def turns_a_second():
    """Returns the turns that `program` computes in a second, in the fastest of ten runs."""
    turns, run = 1000, program(1000)
    spent_s = []
    for _ in range(10):
        state, batch = jnp.zeros(()), joined.join(IDS, common=1)
        begun_s = time.perf_counter()
        jax.block_until_ready(run(state, batch))
        spent_s.append(time.perf_counter() - begun_s)
    return turns / min(spent_s)


def main():
    """Prints one JSON object.

    credited: [step, length, seconds, input wait] of each step. called_share: share of a step's 50 ms that passed in its
    call, the median of PROBES.
    """
    mode, *costs = sys.argv[1:]
    short_s, long_s, short_input_s, long_input_s = (float(cost) / 1000 for cost in costs)
    jax.config.update("jax_cpu_enable_async_dispatch", mode == "async")
    speed = turns_a_second()
    rows = len(IDS["ids"])
    step = {(8, rows): program(round(short_s * speed)), (16, rows): program(round(long_s * speed))}
    programs = SimpleNamespace(step=step)
    probe, state, batch = program(round(0.05 * speed)), jnp.zeros(()), joined.join(IDS, common=1)
    shares, credited = [], []
    for _ in range(PROBES):
        begun_s = time.perf_counter()
        state, _ = probe(state, batch)
        called_s = time.perf_counter() - begun_s
        jax.block_until_ready(state)
        shares.append(called_s / (time.perf_counter() - begun_s))

    def batches():
        for step in range(1, STEPS + 1):
            seq_len = 8 if step % 2 else 16
            time.sleep(short_input_s if step % 2 else long_input_s)
            yield seq_len, IDS

    hooks = loop.Hooks(
        step=lambda step, seq_len, sums, seconds, input_s: credited.append([step, seq_len, seconds, input_s]),
        evaluate=lambda step, state: time.sleep(BETWEEN_S), save=lambda step, state: time.sleep(BETWEEN_S),
        profile=lambda step, state: False, is_decisive=lambda step: False, should_stop=lambda step: False,
        enter_phase=lambda step, phase: None,
    )  # fmt: skip
    loop.run(
        programs, mesh.make(jax.devices()), state, batches(), first_step=0, num_steps=STEPS, eval_every=EVALUATE_EVERY,
        save_every=SAVE_EVERY, hooks=hooks,
    )  # fmt: skip
    print(json.dumps({"credited": credited, "called_share": statistics.median(shares)}))


if __name__ == "__main__":
    main()
