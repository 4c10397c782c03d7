"""Computes one step of a run again, on this machine's CPU, and prints which of its values are not finite."""

from collections.abc import Callable, Collection, Mapping
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bert_tpu.training import jobs

WORST = 5  # rows printed of each kind


def report(
    named_jobs: Mapping[str, jobs.Job],
    params: jobs.Params,
    seq_len: int,
    batch: jobs.Batch,
    step: int,
    readable: Callable[[jobs.Params], Any],
) -> None:
    """Computes a step with several Jobs and prints the sums, the gradient and the worst rows of each.

    named_jobs: name -> Job, such as one in the configured type and one in float32
    params: the parameters that the step starts from
    seq_len: tokens of the batch's rows
    batch: the global batch
    step: its number, counted from 0
    readable: function that returns parameters, or their gradient, without padding

    The loss of the whole batch and its gradient have the step's own dropout; the loss of each row has none.
    """
    print(f"parameters: {_soundness(readable(params))}")
    for name, job in named_jobs.items():
        sums, grads = _whole(job, params, seq_len, batch, step)
        print(name)
        for part, value in sorted(sums.items()):
            print(f"  {part:<14} {value:.6g}")
        norm = math.sqrt(sum(float(np.vdot(g, g)) for g in jax.tree.leaves(jax.tree.map(np.float64, grads))))
        print(f"  gradient norm  {norm:.6g}")
        print(f"  gradient: {_soundness(readable(grads))}")
        _print_rows(job, params, batch, [part for part in job.counts(batch) if part in sums])


def _whole(
    job: jobs.Job, params: jobs.Params, seq_len: int, batch: jobs.Batch, step: int
) -> tuple[dict[str, float], jobs.Params]:
    """Returns (means of the whole batch, its gradient), computed part by part as in the step."""
    assert isinstance(job.seed, int)  # --replay is for pretraining, which has one seed
    key, counts = jax.random.fold_in(jax.random.key(job.seed), step), job.counts(batch)
    fixed = job.load_loss_arrays()

    @jax.jit
    def grad(
        params: jobs.Params, rows: jobs.Batch, first_row: Any, fixed: tuple[Any, ...]
    ) -> tuple[jobs.Params, jobs.Sums]:
        def objective(params: jobs.Params) -> tuple[Any, jobs.Sums]:
            sums = job.step_loss(*fixed)(params, rows, jobs.Draw(key, jnp.asarray(first_row)))
            return sum(sums[name][0] / counts[name] for name in counts), sums

        return jax.grad(objective, has_aux=True)(params)

    rows = len(jax.tree.leaves(batch)[0])
    size = rows // job.accumulate[seq_len]
    parts = [
        grad(params, {name: value[first : first + size] for name, value in batch.items()}, first, fixed)
        for first in range(0, rows, size)
    ]
    grads, sums = jax.device_get(jax.tree.map(lambda *leaves: sum(leaves), *parts))
    return {name: total / count for name, (total, count) in sums.items() if count}, grads


def _print_rows(job: jobs.Job, params: jobs.Params, batch: jobs.Batch, names: Collection[str]) -> None:
    """Prints the losses of the worst rows. names: of the losses, without NSP's if no row is a pair"""

    def losses_of(row: jobs.Batch, fixed: tuple[Any, ...]) -> dict[str, jax.Array]:
        sums = job.step_loss(*fixed)(params, jax.tree.map(lambda x: x[None], row), None)
        return {name: sums[name][0] / jnp.maximum(sums[name][1], 1) for name in names}

    by_row = jax.jit(lambda rows, fixed: jax.lax.map(lambda row: losses_of(row, fixed), rows))
    losses = jax.device_get(by_row(batch, job.load_loss_arrays()))
    total = np.sum([*losses.values()], axis=0)
    bad = np.flatnonzero(~np.isfinite(total))
    print(f"  rows: {len(bad)} of {len(total)} not finite{f', the first is row {bad[0]}' if len(bad) else ''}")
    worst = np.argsort(-np.where(np.isfinite(total), total, np.inf), kind="stable")[:WORST]
    for row in worst:
        print(f"    row {row:<5} " + "  ".join(f"{name} {values[row]:.4f}" for name, values in sorted(losses.items())))


def _soundness(tree: Any) -> str:
    """Returns in words how many values of a pytree are not finite, and where the first of them is."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in leaves]
    bad = [(name, np.argwhere(~np.isfinite(leaf)), leaf) for name, leaf in named]
    bad = [(name, places, leaf) for name, places, leaf in bad if len(places)]
    if not bad:
        size = sum(leaf.size for _, leaf in named)
        name, largest = max(named, key=lambda item: np.abs(item[1]).max())
        return f"all {size:,} values are finite; the largest, in {name}, is {np.abs(largest).max():.4g}"
    arrays = ", ".join(f"{name} ({len(places):,} of {leaf.size:,})" for name, places, leaf in bad[:WORST])
    more = f" and {len(bad) - WORST} more" if len(bad) > WORST else ""
    name, places, leaf = bad[0]
    first = tuple(map(int, places[0]))
    return f"not finite are values of {arrays}{more}; the first is {name}{list(first)} = {leaf[first]}"
