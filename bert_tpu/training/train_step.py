"""The step of every training here. It knows no BERT: a jobs.Job says what is trained."""

from collections.abc import Callable
import concurrent.futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bert_tpu.distributed import collectives
from bert_tpu.distributed import mesh as meshes
from bert_tpu.training import jobs

EACH = jobs.State(
    None, 0, 0, None
)  # where several trainings have their dimension; their batches have it behind the rows
TRAININGS = "trainings"  # that dimension's name
CUT_SIZE = 1 << 16  # elements: what is smaller costs less whole than a collective's start


def shardings(job, mesh) -> jobs.State:
    """Where the state lies: each matrix, in a stack or alone, is cut by rows over the devices; the rest is whole.

    So a device updates its share of the weights alone (Xu et al. 2020, arXiv:2004.13336).
    """

    def sharding(leaf):
        cut = mesh.size > 1 < leaf.ndim and leaf.size >= CUT_SIZE and leaf.shape[-2] % mesh.size == 0
        return meshes.row_sharding(mesh, leaf.ndim - 2 + job.has_several_seeds) if cut else meshes.replicated(mesh)

    return jax.tree.map(sharding, job.first.state_shapes)


def _specs(job, mesh):
    """The parts of a mesh where the parameters of one training lie."""
    return jax.tree.map(lambda s: s.spec, shardings(job.first, mesh).params)


def jit_step(job, mesh):
    """Compiled function (state, batch) -> (state, sums); the state is donated. This is what `plan` plans.

    The loss is each objective's sum over its count in the whole batch, so that neither the devices nor the parts of
    an accumulation change it. Dropout's key is a function of (seed, step), the learning rate one of the step.
    Where a sum or the gradient's norm is not finite, parameters and optimizer stay as they were, `skipped` says so, and
    the step's other sums are 0 of 0. Of several trainings each has its own key, norm and sums; a batch's arrays are
    then [rows, trainings, ...].

    In a job with an `exact_loss` such a step, of any of the trainings, leaves all of the state as it was but sets
    `waits`, and `recomputed` among the sums is 1: the program of `job.exact` is to take the same batch, and ends the
    wait. A step that meets a state that waits, because it was dispatched ahead, changes nothing.
    """
    placed, specs, whole = shardings(job, mesh), _specs(job, mesh), meshes.replicated(mesh)

    def gradients(params, batch, counts, key):
        def objective(full, part, draw):
            sums = job.loss(full, part, draw)
            return sum(sums[name][0] / counts[name] for name in counts), sums

        full = collectives.gather_params(params, specs, job.dtype)
        grads, sums = _accumulated(jax.grad(objective, has_aux=True), full, batch, key, job.accumulate)
        return collectives.reduce_grads(grads, specs), jax.lax.psum(sums, meshes.AXIS)

    ins, outs = (specs, meshes.ROWS, meshes.WHOLE, meshes.WHOLE), (specs, meshes.WHOLE)
    on_each = meshes.map_shards(mesh, gradients, ins, outs)

    def one(state, batch, seed):
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        grads, sums = on_each(state.params, batch, job.counts(batch), key)
        updates, opt = job.tx.update(grads, state.opt, state.params)
        sums["grad_norm"] = (optax.tree.norm(grads), jnp.ones(()))
        sound = jnp.all(jnp.isfinite(jnp.stack([total for total, _ in sums.values()])))
        if job.exact_loss:
            sound = _of_all(job, sound) & ~state.waits
        sums = jax.tree.map(lambda x: jnp.where(sound, x, 0.0), sums)
        sums["skipped"] = (1.0 - sound, jnp.ones(()))
        rate = job.learning_rate(state.step)
        new = jax.tree.map(lambda p, update: p - rate * update, state.params, updates), opt
        kept = jax.tree.map(lambda new, old: jnp.where(sound, new, old), new, (state.params, state.opt))
        waits = ~sound if job.exact_loss else jnp.zeros((), bool)
        return jobs.State(state.step + ~waits, *kept, waits), sums

    def step(state, batch):
        if job.has_several_seeds:
            each = jax.vmap(one, (EACH, 1, 0), (EACH, 0), axis_name=TRAININGS)
            state, sums = each(state, batch, jnp.array(job.seed))
        else:
            state, sums = one(state, batch, job.seed)
        if job.exact_loss:
            sums["recomputed"] = state.waits.astype(jnp.float32), jnp.ones(())
        return state, sums

    ins, outs = (placed, meshes.row_sharding(mesh)), (placed, whole)
    return jax.jit(step, in_shardings=ins, out_shardings=outs, donate_argnums=0)


def _of_all(job, sound):
    """Whether all of several trainings are sound; to be called for each of them."""
    return jax.lax.pmin(sound.astype(jnp.int32), TRAININGS) > 0 if job.has_several_seeds else sound


def jit_evaluate(job, mesh):
    """Compiled function (params, batch) -> sums, without dropout; params lie as `shardings` has them.

    Of several trainings each has its sums of the same batch, as in `jit_outputs`.
    """
    specs = _specs(job, mesh)

    def sums(params, batch):
        return jax.lax.psum(job.loss(collectives.gather_params(params, specs, job.dtype), batch, None), meshes.AXIS)

    return _jit_with_params(job, mesh, meshes.map_shards(mesh, sums, (specs, meshes.ROWS), meshes.WHOLE))


def jit_outputs(job, mesh, outputs):
    """Compiled function (params, batch) -> `outputs(params, rows of the batch)`, rows first, whole on every device.

    Of several trainings each gives its own of the same batch: [trainings, rows, ...].
    """
    specs = _specs(job, mesh)

    def of_rows(params, batch):
        return outputs(collectives.gather_params(params, specs, job.dtype), batch)

    return _jit_with_params(job, mesh, meshes.map_shards(mesh, of_rows, (specs, meshes.ROWS), meshes.ROWS))


def _jit_with_params(job, mesh, function):
    ins = (shardings(job, mesh).params, meshes.row_sharding(mesh))
    return jax.jit(
        jax.vmap(function, (0, None)) if job.has_several_seeds else function,
        in_shardings=ins, out_shardings=meshes.replicated(mesh),
    )  # fmt: skip


def _accumulated(grad, params, batch, key, parts):
    """Gradients and sums over this device's rows of a batch, taken in `parts` parts, one after the other."""
    rows = jax.tree.leaves(batch)[0].shape[0] // parts
    first_row = jax.lax.axis_index(meshes.AXIS) * rows
    if parts == 1:
        return grad(params, batch, jobs.Draw(key, first_row))
    # Part p takes rows p, p + parts, ... of the whole batch: so each device cuts its own rows and none travels.
    batch = jax.tree.map(lambda x: x.reshape(rows, parts, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(total, part):
        index, rows = part
        return jax.tree.map(
            jnp.add, total, grad(params, rows, jobs.Draw(jax.random.fold_in(key, index), first_row))
        ), None

    shapes = jax.eval_shape(grad, params, jax.tree.map(lambda x: x[0], batch), jobs.Draw(key, first_row))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(add, zeros, (jnp.arange(parts), batch))[0]


class Programs(NamedTuple):
    """The compiled step and evaluation for each sequence length; `samples`: what else an evaluation calls, if any.

    compile_exact: function sequence length -> the compiled step of `job.exact`, which most runs never need.
    """

    step: dict[int, Any]
    evaluate: dict[int, Any]
    samples: Any = None
    compile_exact: Callable[[int], Any] | None = None


def compile_programs(job, mesh, evaluate=None, eval_shapes=None) -> Programs:
    """All programs of a run, built side by side before the first step: a length that is met late fails early.

    evaluate: jitted (params, batch) -> anything, for batches of `eval_shapes`; else the job's sums, for its own.
    """
    state = job.state_shapes
    step, evaluate = jit_step(job, mesh), evaluate or jit_evaluate(job, mesh)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        jobs = [
            {n: pool.submit(compile_function, function, given, shape) for n, shape in shapes.items()}
            for function, given, shapes in (
                (step, state, job.shapes),
                (evaluate, state.params, eval_shapes or job.shapes),
            )
        ]
        programs = [{n: built.result() for n, built in programs.items()} for programs in jobs]

    def compile_exact(seq_len):
        return compile_function(jit_step(job.exact, mesh), state, job.shapes[seq_len])

    return Programs(*programs, compile_exact=compile_exact)


def compile_function(function, given, shapes):
    """The jitted `function` of (what has the shapes of `given`, an int32 batch of `shapes`), compiled."""
    batch = {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in shapes.items()}
    return function.lower(given, batch).compile()
