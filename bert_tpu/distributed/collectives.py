"""The exchange of parameters and gradients between the devices of a step.

specs: a pytree like the parameters, of a PartitionSpec each: mesh.WHOLE if every device has the parameter whole, else
it is cut by rows over the devices.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from bert_tpu.distributed import mesh as meshes

# Forms of the sum of gradients over the devices. It is always computed in float32.
# "all-to-all": matrices of layers travel in the compute type, while the device computes; the others as the next form
# "reduce-scatter": each matrix travels in float32, and the device waits
# "all-reduce": the same, but as XLA:TPU translates it without options: with twice the bytes
FORMS = ("all-to-all", "reduce-scatter", "all-reduce")


def gather_params(params: Any, specs: Any, dtype: Any) -> Any:
    """Returns `params` with every parameter whole on each device, and a stack of matrices as a tuple of them.

    params: pytree of this device's shards
    specs: see the top of the file
    dtype: type in which shards travel between devices
    """

    def gather(matrix: jax.Array) -> jax.Array:
        # To float32 and, where it is used, back: nothing is lost or computed, and the gradient is a float32 one.
        return jax.lax.all_gather(matrix.astype(dtype), meshes.AXIS, tiled=True).astype(matrix.dtype)

    def gather_leaf(leaf: jax.Array, spec: PartitionSpec) -> jax.Array | tuple[jax.Array, ...]:
        whole = gather if spec != meshes.WHOLE else lambda matrix: matrix
        return tuple(map(whole, leaf)) if leaf.ndim == 3 else whole(leaf)

    return jax.tree.map(gather_leaf, params, specs)


def reduce_grads(grads: Any, specs: Any, form: str, dtype: Any) -> Any:
    """Returns the gradients summed over the devices, stacked and cut as the parameters were before `gather_params`.

    grads: pytree of the gradients of all that `gather_params` returned
    specs: see the top of the file
    form: one of FORMS
    dtype: type in which "all-to-all" sends gradients
    """

    def reduce_leaf(spec: PartitionSpec, grad: jax.Array | tuple[jax.Array, ...]) -> jax.Array:
        if spec == meshes.WHOLE:
            grads = jax.lax.psum(grad, meshes.AXIS)
        elif isinstance(grad, tuple) and form == "all-to-all":
            grads = tuple(sum_rows(g, dtype) for g in grad)
        else:
            grads = jax.tree.map(lambda g: jax.lax.psum_scatter(g, meshes.AXIS, tiled=True), grad)
        return jnp.stack(grads) if isinstance(grads, tuple) else grads

    return jax.tree.map(reduce_leaf, specs, grads)


def sum_rows(matrix: jax.Array, dtype: Any) -> jax.Array:
    """Returns this device's share of the rows of a matrix, summed over the devices in float32.

    matrix: this device's summand, whole
    dtype: type in which rows travel. In bfloat16 each summand is rounded once and no sum is: an error of a thousandth
        in a sum of 16

    Order of the sum: neighbours first, (0 + 1) + (2 + 3) and so on, until one is left.
    """
    # After a barrier, or the compiler would give the product that makes the matrix a third dimension and copy its
    # operands.
    rows = jax.lax.optimization_barrier(matrix.astype(dtype))
    rows = jax.lax.all_to_all(rows, meshes.AXIS, 0, 0, tiled=True)
    # Additions of whole arrays: as one reduction, XLA:TPU estimates four times the cycles.
    summands = [part.astype(jnp.float32) for part in jnp.split(rows, jax.lax.axis_size(meshes.AXIS))]
    while len(summands) > 1:
        pairs = itertools.zip_longest(summands[::2], summands[1::2])
        summands = [left if right is None else left + right for left, right in pairs]
    return summands[0]
