"""A Job says what is trained; a State is all that a step changes. Neither knows BERT."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Sums = dict[str, tuple[jax.Array, jax.Array]]  # name -> (sum, count): exact over devices, hosts, parts and batches


class Draw(NamedTuple):
    """The randomness of some rows of a batch: its key, and the number of their first one in the whole batch."""

    key: jax.Array
    first_row: jax.Array


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """What is trained. `params` and `batch` are pytrees of arrays; a batch's arrays have rows first."""

    init: Callable[[jax.Array], Any]  # key -> params
    loss: Callable[[Any, dict, Draw | None], Sums]  # (params, rows of a batch, None for no dropout) -> sums
    counts: Callable[[dict], dict[str, jax.Array]]  # whole batch -> denominators; the loss is sum of sums / counts
    tx: optax.GradientTransformation  # without the rate
    learning_rate: Callable[[Any], Any]  # step -> rate; the step applies it and the log prints it
    shapes: dict[int, dict[str, tuple[int, ...]]]  # sequence length -> a global batch's shapes, int32
    flops: dict[int, float]  # sequence length -> model FLOPs of a step
    seed: int | tuple[int, ...]  # several: as many trainings at once, each array with a dimension for them in front
    accumulate: int  # parts a batch is computed in
    dtype: Any  # in which the loss takes its matrices
    exact_loss: Callable | None = None  # for steps that are not finite by `loss`, where its form may be the reason

    @property
    def several(self) -> bool:
        """Whether it is several trainings."""
        return isinstance(self.seed, tuple)

    @functools.cached_property
    def first(self) -> "Job":
        """Its only training, or the first one alone."""
        return dataclasses.replace(self, seed=self.seed[0]) if self.several else self

    @functools.cached_property
    def exact(self) -> "Job":
        """The same Job by `exact_loss`."""
        return dataclasses.replace(self, loss=self.exact_loss, exact_loss=None)

    @functools.cached_property
    def state_shapes(self) -> "State":
        """Shapes and types of its State. A start asks a dozen times, and of `medium` each would cost 0.2 s."""
        return jax.eval_shape(lambda: new_state(self))


class State(NamedTuple):
    """All that a step changes."""

    step: jax.Array
    params: Any
    opt: Any
    waits: Any = False  # whether a step by `loss` was not finite and is to be computed by `exact_loss`; never saved


def new_state(job, params=None) -> State:
    """Step 0, of `params` or those of the job's seed; of several trainings one count of steps and an array for all."""

    def fresh(seed):
        return job.init(jax.random.key(seed))

    if params is None:
        params = jax.vmap(fresh)(jnp.array(job.seed)) if job.several else fresh(job.seed)
    opt = jax.vmap(job.tx.init)(params) if job.several else job.tx.init(params)
    return State(jnp.zeros((), jnp.int32), params, opt, jnp.zeros((), bool))
