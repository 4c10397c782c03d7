"""The exchange of parameters and gradients between the devices of a step.

specs: a pytree like the parameters, of a PartitionSpec each: mesh.WHOLE if every device has the parameter whole, else
it is cut by rows over the devices.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from bert_tpu.distributed import mesh as meshes


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


def reduce_grads(grads: Any, specs: Any) -> Any:
    """Returns the gradients summed over the devices, stacked and cut as the parameters were before `gather_params`.

    grads: pytree of the gradients of all that `gather_params` returned
    specs: see the top of the file
    """

    def reduce_leaf(spec: PartitionSpec, grad: jax.Array | tuple[jax.Array, ...]) -> jax.Array:
        grads: Any = grad if isinstance(grad, tuple) else (grad,)
        if spec != meshes.WHOLE:
            grads = [jax.lax.psum_scatter(g, meshes.AXIS, tiled=True) for g in grads]
        else:
            grads = jax.lax.psum(grads, meshes.AXIS)
        return jnp.stack(grads) if isinstance(grad, tuple) else grads[0]

    return jax.tree.map(reduce_leaf, specs, grads)
