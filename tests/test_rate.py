"""The learning rate that acts is the one that is logged, whatever steps are skipped."""

import jax
import numpy as np
import one_number
from one_number import RATE, STEPS
import pytest
import runs

from bert_tpu import checkpoint, mesh, train


def number_after(directory, step):
    return float(checkpoint.load_params(directory / "checkpoints" / str(step))["bias"])


def test_parameters_move_by_the_logged_rates_where_every_fourth_step_is_skipped(tmp_path):
    bad = range(3, STEPS, 4)
    often = {"log.every_steps": 1, "checkpoint.every_steps": 1, "eval.num_batches": 0}
    assert one_number.run(tmp_path, bad, **often) == 0
    rates = {line["step"]: line["learning_rate"] for line in runs.metrics(tmp_path)}
    assert (max(rates.values()), min(rates.values())) == (RATE, 0)
    numbers = [1.0, *(number_after(tmp_path, step) for step in range(1, STEPS + 1))]
    moved = -np.diff(numbers)
    expected = [0 if step in bad else rates[step + 1] for step in range(STEPS)]
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", ["adamw", "lamb"])
def test_of_several_trainings_each_moves_by_the_one_rate(rule):
    """One is never skipped, one every fourth time, and one all the first half."""
    bad = [(), range(3, STEPS, 4), range(STEPS // 2)]
    job, on = one_number.job(seed=(0, 1, 2), name=rule), mesh.make(jax.devices())
    state = jax.jit(lambda: train.new_state(job), out_shardings=train.shardings(job, on))()
    step, numbers = train.jit_step(job, on), []
    for number in range(STEPS):
        numbers.append(np.asarray(state.params["bias"]))
        state, sums = step(state, mesh.put(one_number.batch(bad, number, job.seed)[1], on))
        np.testing.assert_array_equal(sums["skipped"][0], [number in of for of in bad])
    moved = -np.diff(numbers, axis=0)
    for training, of in enumerate(bad):
        expected = [0 if number in of else float(job.learning_rate(number)) for number in range(STEPS - 1)]
        np.testing.assert_allclose(moved[:, training], expected, rtol=1e-4, atol=1e-6)
