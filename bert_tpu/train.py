"""The step of every training here. It knows no BERT: a Job says what is trained."""

from collections.abc import Callable
import concurrent.futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bert_tpu import mesh as meshes

Sums = dict[str, tuple[jax.Array, jax.Array]]  # name -> (sum, count): exact over devices, hosts, parts and batches


class Job(NamedTuple):
    """What is trained. `params`, `batch` and `key` are pytrees of arrays; a batch's arrays have rows first."""

    init: Callable[[jax.Array], Any]  # key -> params
    loss: Callable[[Any, dict, jax.Array | None], Sums]  # (params, batch, key or None for no dropout) -> sums
    counts: Callable[[dict], dict[str, jax.Array]]  # whole batch -> denominators; the loss is sum of sums / counts
    tx: optax.GradientTransformation
    learning_rate: Callable[[int], Any]  # step -> rate, for the log
    shapes: dict[int, dict[str, tuple[int, ...]]]  # sequence length -> a global batch's shapes, int32
    flops: dict[int, float]  # sequence length -> model FLOPs of a step
    seed: int
    accumulate: int  # parts a batch is computed in


class State(NamedTuple):
    """All that a step changes."""

    step: jax.Array
    params: Any
    opt: Any


def new_state(job) -> State:
    """Step 0, from the job's seed."""
    params = job.init(jax.random.key(job.seed))
    return State(jnp.zeros((), jnp.int32), params, job.tx.init(params))


SHARDED_SIZE = 1 << 14  # elements; smaller leaves cost less whole than the collectives that would share them


def state_shardings(job, mesh) -> State:
    """Where each leaf of the state lives: matrices are cut by rows over all devices, the rest is on each whole."""

    def sharding(leaf):
        cut = leaf.ndim > 1 and leaf.size >= SHARDED_SIZE and leaf.shape[0] % mesh.size == 0
        return meshes.rows(mesh) if cut else meshes.replicated(mesh)

    return jax.tree.map(sharding, jax.eval_shape(lambda: new_state(job)))


def jit_step(job, mesh):
    shardings = state_shardings(job, mesh)
    specs = jax.tree.map(lambda s: s.spec, shardings.params)
    row, whole = meshes.rows(mesh).spec, meshes.replicated(mesh).spec

    def gradients(params, batch, counts, key):
        full = gathered(params)

        def objective(full, part, key):
            sums = job.loss(full, part, key)
            return sum(sums[name][0] / counts[name] for name in counts), sums

        grads, sums = _accumulated(jax.grad(objective, has_aux=True), full, batch, key, job.accumulate)
        def scatter(g, spec):
            return jax.lax.psum_scatter(g, "data", scatter_dimension=0, tiled=True) if spec else jax.lax.psum(g, "data")
        return jax.tree.map(scatter, grads, specs), jax.tree.map(lambda x: jax.lax.psum(x, "data"), sums)

    def gathered(params):
        def gather(p, spec):
            if not spec: return p
            return jax.lax.all_gather(p.astype(jnp.bfloat16), "data", axis=0, tiled=True).astype(jnp.float32)
        return jax.tree.map(gather, params, specs)

    def step(state, batch):
        key = jax.random.fold_in(jax.random.key(job.seed), state.step)
        counts = job.counts(batch)
        grads, sums = jax.shard_map(gradients, mesh=mesh, in_specs=(specs, row, whole, whole), out_specs=(specs, whole), check_vma=False)(state.params, batch, counts, key)
        updates, opt = job.tx.update(grads, state.opt, state.params)
        sums["grad_norm"] = (optax.tree.norm(grads), jnp.ones(()))
        sound = jnp.all(jnp.isfinite(jnp.stack([total for total, _ in sums.values()])))
        sums = jax.tree.map(lambda x: jnp.where(sound, x, 0.0), sums)
        sums["skipped"] = (1.0 - sound, jnp.ones(()))
        new = optax.apply_updates(state.params, updates), opt
        kept = jax.tree.map(lambda new, old: jnp.where(sound, new, old), new, (state.params, state.opt))
        return State(state.step + 1, *kept), sums

    return jax.jit(step, in_shardings=(shardings, meshes.rows(mesh)), out_shardings=(shardings, meshes.replicated(mesh)), donate_argnums=0)


def _accumulated(grad, params, batch, key, parts):
    """Gradients and sums over a batch taken in `parts` parts, one after the other."""
    if parts == 1:
        return grad(params, batch, key)
    # Part p takes rows p, p + parts, ...: so each device cuts its own rows and none travels.
    batch = jax.tree.map(lambda x: x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(total, part):
        index, rows = part
        return jax.tree.map(jnp.add, total, grad(params, rows, jax.random.fold_in(key, index))), None

    shapes = jax.eval_shape(grad, params, jax.tree.map(lambda x: x[0], batch), key)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(add, zeros, (jnp.arange(parts), batch))[0]


def jit_evaluate(job, mesh):
    """Compiled function (params, batch) -> sums, without dropout."""
    whole = meshes.replicated(mesh)
    return jax.jit(
        lambda params, batch: job.loss(params, batch, None),
        in_shardings=(whole, meshes.rows(mesh)),
        out_shardings=whole,
    )


class Programs(NamedTuple):
    """The compiled step and evaluation for each sequence length."""

    step: dict[int, Any]
    evaluate: dict[int, Any]


def compile(job, mesh, lens) -> Programs:
    """All programs of a run, built side by side before the first step: a length that is met late fails early."""
    state = jax.eval_shape(lambda: new_state(job))
    batches = {n: {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in job.shapes[n].items()} for n in lens}
    step, evaluate = jit_step(job, mesh), jit_evaluate(job, mesh)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        steps = {n: pool.submit(lambda b: step.lower(state, b).compile(), batches[n]) for n in lens}
        evals = {n: pool.submit(lambda b: evaluate.lower(state.params, b).compile(), batches[n]) for n in lens}
        return Programs(*({n: built.result() for n, built in programs.items()} for programs in (steps, evals)))
