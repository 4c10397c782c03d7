"""The loop's account of time, with a step that takes none."""

import time
from types import SimpleNamespace

import jax
import numpy as np

from bert_tpu import loop, mesh

SLOW_S = 0.05


def test_input_is_waited_for_within_the_seconds_that_are_told():
    told = []

    def batches():
        for step in range(1, 7):
            if step == 4:
                time.sleep(SLOW_S)
            yield 8, {"input_ids": np.zeros((8, 8), np.int32)}

    def nothing(*_):
        pass

    hooks = loop.Hooks(
        step=lambda step, seq_len, sums, seconds, input_s: told.append((step, seconds, input_s)),
        evaluate=nothing, save=nothing, profile=nothing, should_stop=lambda step: False, at=nothing,
    )  # fmt: skip
    programs = SimpleNamespace(step={8: lambda state, batch: (state, {})})
    loop.run(
        programs, mesh.make(jax.devices()), None, batches(),
        first_step=0, num_steps=6, eval_every=10, save_every=10, hooks=hooks,
    )  # fmt: skip
    assert [step for step, *_ in told] == [1, 2, 3, 4, 5, 6]
    assert all(0 <= input_s <= seconds for _, seconds, input_s in told)
    assert sum(input_s for *_, input_s in told) >= SLOW_S
