"""Looks up rows of a table, with a gradient that is added into the table's own."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def look_up(table_VD: jax.Array, ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (rows [..., D], the table). Code that uses the table again must take it from here.

    Then the rows' gradients are added into the gradient of that other use. The sum of two whole tables would take a
    tenth of a step.
    """
    return jnp.take(table_VD, ids, axis=0), table_VD


def _forward(table_VD: jax.Array, ids: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
    return look_up(table_VD, ids), ids


def _backward(ids: jax.Array, gradients: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
    rows, table_VD = gradients
    return table_VD.at[ids].add(rows), None


look_up.defvjp(_forward, _backward)
