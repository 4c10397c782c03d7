"""One step again, on this machine's CPU: what of it is finite, as it was configured and in float32."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from bert_tpu.training import jobs

WORST = 5  # rows shown of each kind


def report(jobs, params, batch, step, say, shown):
    """Computes `step` with each Job of `jobs` (a name -> Job), from `params` and the global `batch`, and says all.

    shown: parameters or their gradient -> the same tree under the names that a person knows.
    A step that is not finite by a Job's loss is computed by its `exact_loss`, as in a run, where it has one.
    The loss of the whole batch and its gradient are with the step's own dropout; each row's loss is without.
    """
    say(f"parameters: {_soundness(shown(params))}")
    for name, job in jobs.items():
        sums, grads = _whole(job, params, batch, step)
        say(f"{name}")
        if job.exact_loss and not _is_finite((sums, grads)):
            say("  not finite in the fast form of the softmax: computed again with the exact one, as in a run")
            sums, grads = _whole(job.exact, params, batch, step)
        for part, value in sorted(sums.items()):
            say(f"  {part:<14} {value:.6g}")
        norm = math.sqrt(sum(float(np.vdot(g, g)) for g in jax.tree.leaves(jax.tree.map(np.float64, grads))))
        say(f"  gradient norm  {norm:.6g}")
        say(f"  gradient: {_soundness(shown(grads))}")
        _tell_rows(job, params, batch, say)


def _whole(job, params, batch, step):
    """Means of the whole batch, and its gradient, part by part as the step has them."""
    key, counts = jax.random.fold_in(jax.random.key(job.seed), step), job.counts(batch)

    @jax.jit
    def grad(params, rows, key):
        def objective(params):
            sums = job.loss(params, rows, jobs.Draw(key, jnp.zeros((), jnp.int32)))
            return sum(sums[name][0] / counts[name] for name in counts), sums

        return jax.grad(objective, has_aux=True)(params)

    parts = [
        grad(
            params,
            {name: value[part :: job.accumulate] for name, value in batch.items()},
            key if job.accumulate == 1 else jax.random.fold_in(key, part),
        )
        for part in range(job.accumulate)
    ]
    grads, sums = jax.device_get(jax.tree.map(lambda *each: sum(each), *parts))
    return {name: total / count if count else math.nan for name, (total, count) in sums.items()}, grads


def _tell_rows(job, params, batch, say):
    def one(row):
        sums = job.loss(params, jax.tree.map(lambda x: x[None], row), None)
        return {name: sums[name][0] / jnp.maximum(sums[name][1], 1) for name in job.counts(batch)}

    each = jax.device_get(jax.jit(lambda rows: jax.lax.map(one, rows))(batch))
    total = np.sum([*each.values()], axis=0)
    bad = np.flatnonzero(~np.isfinite(total))
    say(f"  rows: {len(bad)} of {len(total)} not finite{f', the first is row {bad[0]}' if len(bad) else ''}")
    worst = np.argsort(-np.where(np.isfinite(total), total, np.inf), kind="stable")[:WORST]
    for row in worst:
        say(f"    row {row:<5} " + "  ".join(f"{name} {values[row]:.4f}" for name, values in sorted(each.items())))


def _is_finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def _soundness(tree):
    """In words, how many values are not finite, and where the first is."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    size = sum(leaf.size for _, leaf in leaves)
    odd = [(jax.tree_util.keystr(path, simple=True, separator="."), np.argwhere(~np.isfinite(leaf)), leaf)
           for path, leaf in leaves]  # fmt: skip
    odd = [(name, places, leaf) for name, places, leaf in odd if len(places)]
    if not odd:
        largest = max(leaves, key=lambda item: np.abs(item[1]).max())
        name = jax.tree_util.keystr(largest[0], simple=True, separator=".")
        return f"all {size:,} values are finite; the largest, in {name}, is {np.abs(largest[1]).max():.4g}"
    name, places, leaf = odd[0]
    told = ", ".join(f"{name} ({len(places):,} of {leaf.size:,})" for name, places, leaf in odd[:WORST])
    more = f" and {len(odd) - WORST} more" if len(odd) > WORST else ""
    where = tuple(map(int, places[0]))
    return f"not finite are values of {told}{more}; the first is {name}{list(where)} = {leaf[where]}"
