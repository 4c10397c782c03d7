"""Counts the work of a traced function."""

import numpy as np


def products(jaxpr):
    """Counts the FLOPs of the matrix products in a jaxpr, those of a loop as often as it turns."""
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            ((axes, _), _), left = equation.params["dimension_numbers"], equation.invars[0].aval
            total += 2 * equation.outvars[0].aval.size * int(np.prod([left.shape[axis] for axis in axes]))
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += products(inner) * equation.params.get("length", 1)
    return total
