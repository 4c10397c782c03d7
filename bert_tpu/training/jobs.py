"""The interface of a training to the loop: a Job, its State and the Schedule of its batches. None knows BERT."""

from collections.abc import Callable, Mapping
import dataclasses
import functools
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

Params = Any  # pytree of arrays; a model's are nested dictionaries
Batch = Mapping[str, Any]  # name -> array [rows, ...], int32: NumPy's on a host, JAX's on the devices
Sums = dict[str, tuple[jax.Array, jax.Array]]  # name -> (sum, count): exact over devices, hosts, parts and batches
HostSums = dict[str, tuple[Any, Any]]  # Sums on the host: numbers, or arrays [trainings]


class Draw(NamedTuple):
    """The randomness of some rows of a batch.

    key: of the step
    first_row: number of the first of these rows in the whole batch
    """

    key: jax.Array
    first_row: jax.Array


class Schedule(Protocol):
    """The lengths and sizes of a run's batches. All of it is known before a row is read.

    data.batch_spec.BatchSpec is pretraining's and data.task_batches.TaskBatches is fine-tuning's.
    """

    @property
    def batch_size(self) -> int:
        """Examples of a full batch, over all hosts and all seeds."""

    def batch_share(self, step: int) -> float:
        """Returns the rows and examples of `step`, counted from 0, as a share of a full batch."""

    def rows_before(self, step: int, seq_len: int) -> int:
        """Returns the rows of `seq_len` tokens in the steps 0 .. step - 1."""

    def rows(self, seq_len: int) -> int:
        """Returns the number of rows of a full global batch. A packed row has several examples."""

    def used_lens(self) -> tuple[int, ...]:
        """Returns the sequence lengths, in tokens, that have at least one step; the short one is first."""

    def check_division(self, devices: int, parts: Mapping[int, int], first_step: int = 0) -> None:
        """Raises UserError unless each device gets the same number of rows in each part of a batch.

        parts: sequence length -> number of parts
        first_step: batches of earlier steps do not count
        """


class FixedLoss(NamedTuple):
    """A loss of training that needs arrays that no step changes, such as the parameters of a teacher.

    loss: function (params, rows of a batch, randomness, the arrays) -> sums
    shapes: of the arrays, a pytree of jax.ShapeDtypeStruct
    load: reads the arrays; returns the same pytree on the host
    """

    loss: Callable[[Params, Batch, Draw | None, Any], Sums]
    shapes: Any
    load: Callable[[], Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """A training without its loop. `params` and `batch` are pytrees of arrays; rows come first in a batch."""

    init: Callable[[jax.Array], Params]  # key -> params
    loss: Callable[[Params, Batch, Draw | None], Sums]  # (params, rows of a batch, None for no dropout) -> sums
    counts: Callable[[Batch], dict[str, jax.Array]]  # whole batch -> denominators; the loss is sum of sums / counts
    rule: optax.GradientTransformation  # of the update, without the learning rate
    learning_rate: Callable[[Any], Any]  # step -> rate; the step applies it and the log prints it
    shapes: dict[int, dict[str, tuple[int, ...]]]  # sequence length -> a full global batch's shapes, int32
    flops: dict[int, float]  # sequence length -> model FLOPs of a step with a full batch
    seed: int | tuple[int, ...]  # several: as many trainings at once, each array with a dimension for them in front
    accumulate: dict[int, int]  # sequence length -> parts that a batch is computed in
    dtype: Any  # type of the matrices that the loss gets
    exchange: str = "all-to-all"  # form of the sum of gradients, one of collectives.FORMS
    update_flops: float = 0.0  # the part of `flops` that does not depend on the rows: of an update rule such as Muon
    fixed_loss: FixedLoss | None = None  # loss of a step; evaluations have `loss`

    @property
    def fixed_shapes(self) -> tuple[Any, ...]:
        """Shapes of the arrays that a step takes after state and batch: the seed or seeds, and those of `fixed_loss`.

        The seed is an argument, because then all seeds have one program, compiled once.
        """
        seeds = jax.ShapeDtypeStruct(np.shape(self.seed), jnp.int32)
        return (seeds,) if self.fixed_loss is None else (seeds, self.fixed_loss.shapes)

    def load_fixed(self) -> tuple[Any, ...]:
        """Returns the arrays with `fixed_shapes`, on the host."""
        return self.seed_array, *self.load_loss_arrays()

    def load_loss_arrays(self) -> tuple[Any, ...]:
        """Returns the arguments of `step_loss`: the arrays of `fixed_loss`, on the host, if there is one."""
        return () if self.fixed_loss is None else (self.fixed_loss.load(),)

    @property
    def seed_array(self) -> np.ndarray:
        """The seed or seeds as int32, an argument of the compiled functions."""
        return np.asarray(self.seed, np.int32)

    def step_loss(self, *fixed: Any) -> Callable[[Params, Batch, Draw | None], Sums]:
        """Returns the loss of a step. fixed: the arrays of `fixed_loss`, if there is one."""
        if self.fixed_loss is None:
            return self.loss
        loss = self.fixed_loss.loss
        return lambda params, rows, draw: loss(params, rows, draw, *fixed)

    @property
    def has_several_seeds(self) -> bool:
        """True if it is several trainings at once."""
        return isinstance(self.seed, tuple)

    def rows(self, seq_len: int) -> int:
        """Returns the rows of a full batch: the first dimension of its arrays."""
        return next(iter(self.shapes[seq_len].values()))[0]

    def step_shapes(self, seq_len: int, rows: int) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of a batch with another number of rows than a full one."""
        return {name: (rows, *shape[1:]) for name, shape in self.shapes[seq_len].items()}

    @functools.cached_property
    def single(self) -> "Job":
        """The Job of its only seed, or of the first of several."""
        return dataclasses.replace(self, seed=self.seed[0]) if isinstance(self.seed, tuple) else self

    @functools.cached_property
    def state_shapes(self) -> "State":
        """Shapes and types of its State. A start asks a dozen times; computing them takes 0.2 s for `medium`."""
        return jax.eval_shape(lambda: new_state(self))


class State(NamedTuple):
    """All that a step changes."""

    step: jax.Array
    params: Params
    opt: Any


def new_state(job: Job, params: Params | None = None, seed: jax.Array | None = None) -> State:
    """Returns the State of step 0.

    job: of several trainings, all have one count of steps, and each other array has a dimension for them in front
    params: None draws them from the seed
    seed: an array of the job's seed or seeds, for a function that is compiled once for all seeds; None: the job's own
    """

    def fresh(seed: Any) -> Params:
        return job.init(jax.random.key(seed))

    several = job.has_several_seeds
    if params is None:
        seed = jnp.array(job.seed) if seed is None else seed
        params = jax.vmap(fresh)(seed) if several else fresh(seed)
    opt = jax.vmap(job.rule.init)(params) if several else job.rule.init(params)
    return State(jnp.zeros((), jnp.int32), params, opt)


def work(job: Job, schedule: Schedule, step: int) -> float:
    """Returns the FLOPs of the steps 0 .. step - 1."""
    of_rows = {n: flops - job.update_flops for n, flops in job.flops.items()}
    batches = {n: schedule.rows_before(step, n) / schedule.rows(n) for n in of_rows}  # full ones
    return sum(batches[n] * flops for n, flops in of_rows.items()) + step * job.update_flops
