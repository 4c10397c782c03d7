"""The exchange of parameters and gradients between the devices of a step; `specs` say where each parameter lies."""

import jax
import jax.numpy as jnp

from bert_tpu.distributed import mesh as meshes


def gathered(params, specs, dtype):
    """Returns the whole of `params` on each device, a stack of matrices as a tuple. What is cut travels in `dtype`."""

    def gather(matrix):
        # To float32 and, where it is used, back: nothing is lost or computed, and the gradient is a float32 one.
        return jax.lax.all_gather(matrix.astype(dtype), meshes.AXIS, tiled=True).astype(matrix.dtype)

    def whole(leaf, spec):
        whole = gather if spec != meshes.WHOLE else lambda matrix: matrix
        return tuple(map(whole, leaf)) if leaf.ndim == 3 else whole(leaf)

    return jax.tree.map(whole, params, specs)


def reduced(grads, specs):
    """Returns the sums over the devices of the gradients of what `gathered` gave, stacked and cut as it was."""

    def reduce(spec, grad):
        grads = grad if isinstance(grad, tuple) else (grad,)
        if spec != meshes.WHOLE:
            grads = [jax.lax.psum_scatter(g, meshes.AXIS, tiled=True) for g in grads]
        else:
            grads = jax.lax.psum(grads, meshes.AXIS)
        return jnp.stack(grads) if isinstance(grad, tuple) else grads[0]

    return jax.tree.map(reduce, specs, grads)
