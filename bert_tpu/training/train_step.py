"""The compiled step of every training here. It knows no BERT: a jobs.Job says what is trained."""

from collections.abc import Callable, Collection, Mapping
import concurrent.futures
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
import optax

from bert_tpu.core import joined
from bert_tpu.distributed import collectives, compiler_options
from bert_tpu.distributed import mesh as meshes
from bert_tpu.training import jobs

# The dimension of State's arrays that several trainings are stacked along, for jax.vmap. A batch has it after the rows.
EACH = jobs.State(None, 0, 0)  # type: ignore[arg-type]  # axes instead of arrays
CUT_SIZE = 1 << 16  # elements: a smaller array costs less whole than the start of a collective
# Key of parameters that no device cuts. A fine-tuning's head is computed in float32. Rows that travel in the compute
# type would lose bits of it, on several devices alone.
KEPT_WHOLE = "head"


def shardings(job: jobs.Job, mesh: Mesh) -> jobs.State:
    """Returns a State of shardings: every matrix, in a stack or alone, is cut by rows over the devices.

    Small matrices, a fine-tuning's head, and arrays that are not matrices are whole on every device. So each device
    updates only its share of the weights (Xu et al. 2020, arXiv:2004.13336).
    """

    def sharding(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        cut = mesh.size > 1 < leaf.ndim and leaf.size >= CUT_SIZE and leaf.shape[-2] % mesh.size == 0
        cut = cut and jax.tree_util.DictKey(KEPT_WHOLE) not in path
        return meshes.row_sharding(mesh, leaf.ndim - 2 + job.has_several_seeds) if cut else meshes.replicated(mesh)

    return jax.tree_util.tree_map_with_path(sharding, job.single.state_shapes)


def _specs(job: jobs.Job, mesh: Mesh) -> Any:
    """Returns the PartitionSpec of each parameter of one training."""
    return jax.tree.map(lambda s: s.spec, shardings(job.single, mesh).params)


def jit_step(job: jobs.Job, mesh: Mesh, seq_len: int) -> jax.stages.Wrapped:
    """Returns the jitted function (state, batch, *fixed) -> (next state, sums), which donates the state.

    fixed: arrays of job.fixed_shapes, whole on every device; `bind` adds them
    seq_len: tokens of a batch's rows

    The batch may be a joined.Joined, and the sums are one of float32: each copy between host and
    devices costs time. The loss is each objective's sum over its count in the whole batch, and dropout is a function of
    (seed, step, row), so that neither the devices nor the parts of an accumulation change more than rounding. The
    learning rate is a function of the step.
    If a sum or the gradient's norm is not finite, parameters and optimizer stay as they were, `skipped` among the sums
    is 1, and all other sums and counts are 0. Several trainings have a key, a norm and sums each; a batch's arrays are
    then [rows, trainings, ...].
    """
    placed, specs, whole = shardings(job, mesh), _specs(job, mesh), meshes.replicated(mesh)
    number = len(job.fixed_shapes)  # the seed is the first

    def gradients(
        params: jobs.Params, batch: jobs.Batch, counts: dict[str, jax.Array], key: jax.Array, *fixed: Any
    ) -> tuple[jobs.Params, jobs.Sums]:
        loss = job.step_loss(*fixed)

        def objective(full: jobs.Params, part: jobs.Batch, draw: jobs.Draw) -> tuple[Any, jobs.Sums]:
            sums = loss(full, part, draw)
            return sum(sums[name][0] / counts[name] for name in counts), sums

        full = collectives.gather_params(params, specs, job.dtype)
        grads, sums = _accumulated(jax.grad(objective, has_aux=True), full, batch, key, job.accumulate[seq_len])
        return collectives.reduce_grads(grads, specs, job.exchange, job.dtype), jax.lax.psum(sums, meshes.AXIS)

    ins, outs = (specs, meshes.ROWS, *[meshes.WHOLE] * (1 + number)), (specs, meshes.WHOLE)
    on_shards = meshes.map_shards(mesh, gradients, ins, outs)

    def one(state: jobs.State, batch: jobs.Batch, seed: Any, *fixed: Any) -> tuple[jobs.State, jobs.Sums]:
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        grads, sums = on_shards(state.params, batch, job.counts(batch), key, *fixed)
        rule = optax.with_extra_args_support(job.rule)
        updates, opt = rule.update(grads, state.opt, state.params, mesh=mesh)
        sums["grad_norm"] = (optax.tree.norm(grads), jnp.ones(()))
        sound = jnp.all(jnp.isfinite(jnp.stack([total for total, _ in sums.values()])))
        sums = jax.tree.map(lambda x: jnp.where(sound, x, 0.0), sums)
        sums["skipped"] = (1.0 - sound, jnp.ones(()))
        rate = job.learning_rate(state.step)
        new = jax.tree.map(lambda p, update: p - rate * update, state.params, updates), opt
        params, opt = jax.tree.map(lambda new, old: jnp.where(sound, new, old), new, (state.params, state.opt))
        return jobs.State(state.step + 1, params, opt), sums

    def step(state: jobs.State, batch: jobs.Batch, seed: jax.Array, *fixed: Any) -> tuple[jobs.State, joined.Joined]:
        batch = dict(batch)  # of one array
        if job.has_several_seeds:
            axes = (EACH, 1, 0, *[None] * (number - 1))
            state, sums = jax.vmap(one, axes, (EACH, 0))(state, batch, seed, *fixed)
        else:
            state, sums = one(state, batch, seed, *fixed)
        return state, joined.join({name: jnp.stack(pair) for name, pair in sums.items()}, common=0)

    return jax.jit(
        step, in_shardings=(placed, meshes.row_sharding(mesh), *[whole] * number), out_shardings=(placed, whole),
        donate_argnums=0,
        compiler_options=compiler_options.find(mesh, job.exchange),
    )  # fmt: skip


def bind(job: jobs.Job, mesh: Mesh, steps: Mapping[Any, Callable[..., Any]]) -> dict[Any, Callable[..., Any]]:
    """Returns functions (state, batch) that call `steps` with the job's fixed arrays; the devices get one copy.

    job, mesh: as in jit_step
    steps: any key -> a function of `jit_step`, or its compiled form
    """

    def put(x: Any) -> jax.Array:  # each host has it whole
        return jax.make_array_from_callback(x.shape, meshes.replicated(mesh), lambda index: x[index])

    fixed = jax.tree.map(put, job.load_fixed())
    return {n: lambda state, batch, step=step: step(state, batch, *fixed) for n, step in steps.items()}


def bound_step(job: jobs.Job, mesh: Mesh, seq_len: int) -> Callable[..., Any]:
    """Returns the function (state, batch) -> (next state, sums) of `jit_step` for the job's own arrays."""
    return bind(job, mesh, {seq_len: jit_step(job, mesh, seq_len)})[seq_len]


def jit_evaluate(job: jobs.Job, mesh: Mesh) -> jax.stages.Wrapped:
    """Returns the jitted function (params, batch) -> sums, without dropout; params are placed as in `shardings`.

    A batch is computed in the parts of a step with rows of the same length, since it needs the same memory. Several
    trainings have sums each, of the same batch: [trainings].
    """
    specs = _specs(job, mesh)

    def sums(params: jobs.Params, batch: jobs.Batch) -> jobs.Sums:
        whole, rows = collectives.gather_params(params, specs, job.dtype), dict(batch)
        key = jax.random.key(0)  # without use: nothing is drawn
        summed = _accumulated(lambda params, rows, _: job.loss(params, rows, None), whole, rows, key, _parts(job, rows))
        return jax.lax.psum(summed, meshes.AXIS)

    return _jit_with_params(job, mesh, meshes.map_shards(mesh, sums, (specs, meshes.ROWS), meshes.WHOLE))


def jit_outputs(job: jobs.Job, mesh: Mesh, outputs: Callable[[jobs.Params, jobs.Batch], Any]) -> jax.stages.Wrapped:
    """Returns the jitted function (params, batch) -> `outputs(params, rows of the batch)`, whole on every device.

    job, mesh: what is trained, and where
    outputs: returns a pytree of arrays [rows, ...]; with several trainings the result is [trainings, rows, ...]
    """
    specs = _specs(job, mesh)

    def of_rows(params: jobs.Params, batch: jobs.Batch) -> Any:
        return outputs(collectives.gather_params(params, specs, job.dtype), dict(batch))

    return _jit_with_params(job, mesh, meshes.map_shards(mesh, of_rows, (specs, meshes.ROWS), meshes.ROWS))


def _jit_with_params(job: jobs.Job, mesh: Mesh, function: Callable[..., Any]) -> jax.stages.Wrapped:
    ins = (shardings(job, mesh).params, meshes.row_sharding(mesh))
    return jax.jit(
        jax.vmap(function, (0, None)) if job.has_several_seeds else function,
        in_shardings=ins, out_shardings=meshes.replicated(mesh),
    )  # fmt: skip


def _parts(job: jobs.Job, batch: jobs.Batch) -> int:
    """Returns the parts in which a step computes rows of this shape; 1 if the rows here do not divide over them."""
    row = {name: x.shape[1:] for name, x in batch.items()}
    for n, shapes in job.shapes.items():
        if {name: shape[1:] for name, shape in shapes.items()} == row:
            parts = job.accumulate[n]
            return parts if len(next(iter(batch.values()))) % parts == 0 else 1
    return 1


def _accumulated(
    function: Callable[..., Any], params: jobs.Params, batch: jobs.Batch, key: jax.Array, parts: int
) -> Any:
    """Returns the sum of `function` over this device's rows of a batch, in `parts` parts, one after the other.

    function: (params, rows, jobs.Draw) -> pytree of arrays, such as gradients and sums
    params: whole on this device
    batch: this device's rows
    key: of the step
    """
    rows = jax.tree.leaves(batch)[0].shape[0]
    first_row = jax.lax.axis_index(meshes.AXIS) * rows
    if parts == 1:
        return function(params, batch, jobs.Draw(key, first_row))
    batch = jax.tree.map(lambda x: x.reshape(parts, rows // parts, *x.shape[1:]), batch)
    first_rows = first_row + jnp.arange(0, rows, rows // parts)

    def add(total: Any, part: tuple[jax.Array, jobs.Batch]) -> tuple[Any, None]:
        first_row, rows = part
        return jax.tree.map(jnp.add, total, function(params, rows, jobs.Draw(key, first_row))), None

    shapes = jax.eval_shape(function, params, jax.tree.map(lambda x: x[0], batch), jobs.Draw(key, first_row))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return jax.lax.scan(add, zeros, (first_rows, batch))[0]


class Programs(NamedTuple):
    """The compiled programs of a run.

    step: (sequence length, rows of a batch) -> compiled function, as jit_step returns it
    evaluate: sequence length -> compiled function, as jit_evaluate returns it
    samples: another compiled function that an evaluation calls, if any
    """

    step: dict[tuple[int, int], Any]
    evaluate: dict[int, Any]
    samples: Any = None


def compile_programs(
    job: jobs.Job,
    mesh: Mesh,
    evaluate: jax.stages.Wrapped | None = None,
    eval_shapes: dict[int, dict[str, tuple[int, ...]]] | None = None,
    sizes: Collection[tuple[int, int]] | None = None,
) -> Programs:
    """Compiles all programs of a run, in parallel and before the first step, so that a rare length fails early too.

    job, mesh: what is trained, and where
    evaluate: jitted function (params, batch) -> anything; None: jit_evaluate's
    eval_shapes: sequence length -> shapes of the batches for `evaluate`; None: the job's
    sizes: (sequence length, rows) of the steps' batches; None: the full ones of the job
    """
    state = job.state_shapes
    sizes = sizes or [(n, job.rows(n)) for n in job.shapes]
    evaluate = evaluate or jit_evaluate(job, mesh)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        steps = {
            (n, rows): pool.submit(
                compile_function, jit_step(job, mesh, n), state, job.step_shapes(n, rows), *job.fixed_shapes
            )
            for n, rows in sizes
        }
        evaluations = {
            n: pool.submit(compile_function, evaluate, state.params, shapes)
            for n, shapes in (eval_shapes or job.shapes).items()
        }
    step = bind(job, mesh, {size: future.result() for size, future in steps.items()})
    return Programs(step, {n: future.result() for n, future in evaluations.items()})


def compile_function(
    function: jax.stages.Wrapped, argument: Any, shapes: dict[str, tuple[int, ...]], *more: Any
) -> jax.stages.Compiled:
    """Compiles a jitted function of (state or params, batch, perhaps more).

    function: the jitted function
    argument: shapes and types of its first argument
    shapes: name -> shape of the batch's arrays, int32
    more: shapes and types of the other arguments
    """
    return function.lower(argument, joined.abstract(shapes, jnp.int32), *more).compile()
