"""Muon for the matrices of the layers, and another rule for all other parameters.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) replaces the momentum of a matrix with its nearest
orthogonal matrix, so that all directions of the matrix move by the same length.
"""

import math
from typing import Any

import jax
import optax

MOMENTUM = 0.95  # share of the old momentum that a step keeps: Jordan et al.
RMS = 0.2  # of an update, about that of AdamW's: Liu et al. 2025 (arXiv:2502.16982, section 2.2)


def scale_by_muon(other: optax.GradientTransformation) -> optax.GradientTransformation:
    """Returns a rule that takes Muon's step for the matrices of the layers, and that of `other` for all other leaves.

    Each matrix of a stack [layers, in, out] is orthogonalized alone and whole. Query, key and value are three matrices
    [width, width], whose heads stay together. The iteration is optax's: five steps of Newton and Schulz with Nesterov
    momentum. It leaves most singular values between 0.7 and 1.2.

    The root mean square of an orthogonal matrix is 1 / sqrt(its longer side). The update is the orthogonal matrix times
    RMS x sqrt(its longer side), so that one learning rate and one weight decay suit both rules.
    """
    orthogonalize = optax.contrib.scale_by_muon(beta=MOMENTUM, weight_dimension_numbers=_dimensions)
    return optax.partition({"muon": optax.chain(orthogonalize, optax.stateless(_scale)), "other": other}, _rules)


def _rules(params: Any) -> Any:
    """Returns a tree of "muon" for each kernel of the layers and "other" for each other leaf."""

    def name(path: tuple[Any, ...], leaf: Any) -> str:
        del leaf
        return "muon" if (path[0].key, path[-1].key) == ("layers", "kernel") else "other"

    return jax.tree_util.tree_map_with_path(name, params)


def _dimensions(updates: Any) -> Any:
    """Returns for each leaf which dimensions are its matrix; those before them are stacked."""
    return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(reduction_axis=-2, output_axis=-1), updates)


def _scale(updates: Any, params: Any) -> Any:
    del params
    return jax.tree.map(lambda update: RMS * math.sqrt(max(update.shape[-2:])) * update, updates)
