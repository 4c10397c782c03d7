"""States that the tests of checkpoints save."""

import pathlib

import jax
import numpy as np

from bert_tpu.distributed import mesh
from bert_tpu.training import checkpoint, jobs

HERE = pathlib.Path(__file__).parent  # where a process of its own finds this module
WHOLE = mesh.replicated(mesh.make(jax.devices()))


def state(step):
    """Returns a state whose arrays all differ from step to step. `table` is large enough for a file of its own."""
    params = {"table": np.random.default_rng(step).normal(size=(50, 40)).astype(np.float32), "bias": np.float32([step])}
    opt = ({"m": np.full(3, 2 * step, np.float32)}, ())
    return jax.device_put(jobs.State(np.int32(step), params, opt), WHOLE)


def open_checkpoints(directory, **changes):
    return checkpoint.Checkpoints(directory=directory, **{"every_steps": 1, "keep_last": 9, "keep_every": 0} | changes)
