"""Runs that train one number. The batch decides whether a step is finite, for tests of skipped steps.

The loss is the number, its gradient is 1, and Adam's update is 1 at every step: the number falls by the learning rate.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np

from bert_tpu.training import jobs, loop, optim, train_step, trainer
from helpers import small_bert, tiny_runs

ROWS, SEQ_LEN, STEPS, RATE = 8, 4, 40, 0.125
OPTIM = {
    "name": "adamw", "learning_rate": RATE, "schedule": "linear", "warmup_steps": 4, "num_steps": STEPS, "b1": 0.9,
    "b2": 0.999, "eps": 1e-9, "weight_decay": 0.0, "clip_norm": 0.0,
}  # fmt: skip
KEYS = {
    "num_steps": STEPS, "eval.every_steps": 10, "log.every_steps": 4, "log.to": (), "batch_size": ROWS,
    "checkpoint.every_steps": 10, "checkpoint.keep_last": 99, "nonfinite.stop_after": 0,
}  # fmt: skip


def job(seed=0, turns=0, **changes):
    """Returns the Job of one training, or of several if `seed` is a tuple.

    turns: number of turns of a loop that each step also computes, without an effect. changes: of OPTIM.
    """
    rule, rate, *_ = optim.make(**OPTIM | changes)

    def loss(params, rows, draw):
        factor = jnp.where(rows["bad"] > 0, jnp.inf, 1.0)
        table = jax.lax.stop_gradient(jnp.full((32, 32), params["bias"]))
        spent = jax.lax.fori_loop(0, turns, lambda _, x: jnp.sin(x @ x), table)
        return {"mlm_loss": (jnp.sum(params["bias"] * factor) + 0 * jnp.sum(spent), jnp.float32(len(factor)))}

    shapes = {name: rows.shape for name, rows in batch([], 0, seed)[1].items()}
    return jobs.Job(
        init=lambda key: {"bias": jnp.ones(())}, loss=loss, counts=lambda batch: {"mlm_loss": jnp.float32(ROWS)},
        rule=rule, learning_rate=rate, shapes={SEQ_LEN: shapes}, flops={SEQ_LEN: 1.0}, seed=seed,
        accumulate={SEQ_LEN: 1}, dtype="float32",
    )  # fmt: skip


def batch(bad, step, seed=0):
    """Returns (sequence length, batch of `step`). bad: steps that are not finite; of several trainings a list each."""
    if isinstance(seed, tuple):
        is_bad = [step in (bad[number] if bad else ()) for number in range(len(seed))]
        return SEQ_LEN, {"bad": np.tile(np.array(is_bad, np.int32), (ROWS, 1))}
    return SEQ_LEN, {"bad": np.full(ROWS, step in bad, np.int32)}


class Schedule:
    """A jobs.Schedule of steps of one length."""

    batch_size = ROWS

    def batch_share(self, step):
        return 1.0

    def rows_before(self, step, seq_len):
        return step * ROWS

    def rows(self, seq_len):
        return ROWS

    def used_lens(self):
        return (SEQ_LEN,)

    def check_division(self, devices, parts, first_step=0):
        pass


def run(directory, bad, seed=0, turns=0, input_s=0.0, **changes):
    """Trains in `directory` like a user's run; returns the exit code.

    bad: as in `batch`. turns: as in `job`. input_s: seconds that a batch takes. changes: of KEYS.
    """
    cfg = tiny_runs.configured(KEYS | {"compile_cache": ""} | changes)
    training_job = job(seed, turns, num_steps=cfg.num_steps)

    def batches_from(step):
        for number in range(step, cfg.num_steps):
            time.sleep(input_s)
            yield batch(bad, number, seed)

    def evaluate(programs, mesh, state, run_log, finished):
        if cfg.eval.num_batches:
            run_log.evaluation(finished, _whole(loop.evaluate(programs, mesh, state.params, [batch([], 0)])))

    return trainer.run(cfg, trainer.Training(
        job=training_job, schedule=Schedule(), objectives=("mlm_loss",), facts={"seed": seed},
        vocabulary=small_bert.VOCAB, size=1, first_params=None,
        compile_programs=lambda mesh, first_step: train_step.compile_programs(
            training_job, mesh, eval_shapes={SEQ_LEN: {"bad": (ROWS,)}}
        ),
        open_data=lambda *_: trainer.Data(batches_from, evaluate), peak=optim.Peak(RATE),
        warmup=optim.WarmUp("", 4, 4), advice="advice for step {step}",
    ), directory)  # fmt: skip


def _whole(totals):
    return {seq_len: jax.tree.map(np.sum, sums) for seq_len, sums in totals.items()}
