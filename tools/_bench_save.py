"""Measures how long the training loop waits for a checkpoint of `medium` on this machine's disk, for bert-tpu bench."""

import contextlib
import pathlib
import statistics
import time

import jax

from bert_tpu.configs import bert
from bert_tpu.distributed import mesh
from bert_tpu.pretrain import pretraining
from bert_tpu.training import checkpoint, orbax_setup, trainer

SAVES = 7
SHARE = 0.02  # of the time between two saves that the loop may wait


def waits(directory: pathlib.Path) -> tuple[list[float], int, int]:
    """Returns (seconds that the loop waits for each save, bytes of a state, steps between two saves).

    The writing in the background has ended before the next save begins, as it has in a run after so many steps.
    """
    cfg = bert.get_config("medium")
    orbax_setup.quiet()
    seconds = []
    with contextlib.closing(checkpoint.Checkpoints(**cfg.checkpoint, directory=directory)) as checkpoints:
        state, _ = trainer.restore_or_init(pretraining.make_job(cfg), mesh.make(jax.devices()), checkpoints)
        jax.block_until_ready(state)
        for _ in range(SAVES):
            state = state._replace(step=state.step + 1)
            start = time.perf_counter()
            checkpoints.save(state, {})
            seconds.append(time.perf_counter() - start)
            checkpoints.wait()
    return seconds, sum(x.nbytes for x in jax.tree.leaves(state)), cfg.checkpoint.every_steps


def line(directory: str) -> str:
    """A line with the median wait, and with the step time at which the wait is SHARE of the time between two saves."""
    seconds, size, every = waits(pathlib.Path(directory))
    median = statistics.median(seconds)
    least_ms = 1e3 * median / every / SHARE
    return (
        f"{f'checkpoint of medium, {size / 1e6:.0f} MB, s waited':<50} {median:>11.2f}   {min(seconds):.2f} .. "
        f"{max(seconds):.2f}; every {every:,} steps: under {SHARE:.0%} where a step takes {least_ms:.2f} ms or more"
    )
