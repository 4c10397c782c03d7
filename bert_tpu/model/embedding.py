"""Rows of a table, with a gradient that is added where it belongs."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def look_up(table_VD, ids):
    """(rows [..., D], the table). Who uses the table again takes it from here.

    Then the rows' gradients are added into the table's other one: a sum of two whole tables is a tenth of a step.
    """
    return jnp.take(table_VD, ids, axis=0), table_VD


def _forward(table_VD, ids):
    return look_up(table_VD, ids), ids


def _backward(ids, gradients):
    rows, table_VD = gradients
    return table_VD.at[ids].add(rows), None


look_up.defvjp(_forward, _backward)
