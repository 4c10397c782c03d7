"""Muon for the matrices of the layers, and another rule for all other parameters.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) replaces the momentum of a matrix with its nearest
orthogonal matrix, so that all directions of the matrix move by the same length.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
import optax

from bert_tpu.distributed import mesh as meshes

MOMENTUM = 0.95  # share of the old momentum that a step keeps: Jordan et al.
RMS = 0.2  # of an update, about that of AdamW's: Liu et al. 2025 (arXiv:2502.16982, section 2.2)


def scale_by_muon(other: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Returns a rule that takes Muon's step for the matrices of the layers, and that of `other` for all other leaves.

    Each matrix of a stack [layers, in, out] is orthogonalized alone and whole. Query, key and value are three matrices
    [width, width], whose heads stay together. The momentum is Nesterov's. The iteration is optax's: five steps of
    Newton and Schulz. It leaves most singular values between 0.7 and 1.2.

    The root mean square of an orthogonal matrix is 1 / sqrt(its longer side). The update is the orthogonal matrix times
    RMS x sqrt(its longer side), so that one learning rate and one weight decay suit both rules.

    `update` takes one more argument, mesh: the devices that the matrices are cut over, or None.
    """
    muon = optax.chain(optax.trace(MOMENTUM, nesterov=True), optax.GradientTransformationExtraArgs(_empty, _update))
    return optax.partition({"muon": muon, "other": other}, _rules)


def _rules(params: Any) -> Any:
    """Returns a tree of "muon" for each kernel of the layers and "other" for each other leaf."""

    def name(path: tuple[Any, ...], leaf: Any) -> str:
        del leaf
        return "muon" if (path[0].key, path[-1].key) == ("layers", "kernel") else "other"

    return jax.tree_util.tree_map_with_path(name, params)


def _empty(params: Any) -> optax.EmptyState:
    del params
    return optax.EmptyState()


def _update(
    updates: Any, state: optax.EmptyState, params: Any = None, *, mesh: Mesh | None = None, **extra: Any
) -> tuple[Any, optax.EmptyState]:
    """Orthogonalizes and scales every leaf [layers, in, out].

    Matrices of one shape are one stack, in which each device has whole matrices: a product with the whole matrix
    would else need an exchange in each of its fifteen places.
    """
    del params, extra
    leaves, tree = jax.tree.flatten(updates)
    flat = [leaf.mT if leaf.shape[-2] > leaf.shape[-1] else leaf for leaf in leaves]
    done: list[Any] = [None] * len(leaves)
    for shape in sorted({leaf.shape[-2:] for leaf in flat}):
        places = [i for i, leaf in enumerate(flat) if leaf.shape[-2:] == shape]
        stack = _orthogonalized(jnp.concatenate([_cut(flat[i], mesh, 1) for i in places]), mesh)
        stack *= RMS * math.sqrt(shape[1])
        ends = [sum(len(flat[i]) for i in places[: n + 1]) for n in range(len(places))]
        for i, part in zip(places, jnp.split(stack, ends[:-1]), strict=True):
            done[i] = part.mT if leaves[i].shape[-2] > leaves[i].shape[-1] else part
    return jax.tree.unflatten(tree, done), state


def _orthogonalized(stack: jax.Array, mesh: Mesh | None) -> jax.Array:
    """Returns each matrix of [matrices, short side, long side] orthogonalized, in the place where it came from."""
    more = -len(stack) % (mesh.size if mesh else 1)  # a matrix of zeros stays zero
    stack_pad = _cut(jnp.pad(stack, ((0, more), (0, 0), (0, 0))), mesh, 0)
    # Without momentum, optax's rule is the iteration alone.
    iteration = optax.contrib.scale_by_muon(
        beta=0.0, nesterov=False,
        weight_dimension_numbers=optax.contrib.MuonDimensionNumbers(reduction_axis=1, output_axis=2),
    )  # fmt: skip
    whole, _ = iteration.update(stack_pad, iteration.init(stack_pad))
    return _cut(_cut(whole, mesh, 0), mesh, 1)[: len(stack)]


def _cut(x: jax.Array, mesh: Mesh | None, axis: int) -> jax.Array:
    """Returns `x`, cut along `axis` over the devices if that axis divides."""
    if mesh is None or mesh.size == 1 or x.shape[axis] % mesh.size:
        return x
    return jax.lax.with_sharding_constraint(x, meshes.row_sharding(mesh, axis))
