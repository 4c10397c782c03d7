"""The product of a Dense layer."""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def matmul(x, kernel_DF):
    """[..., D] -> [..., F]."""
    return jnp.einsum("...D,DF->...F", x, kernel_DF)


def _forward(x, kernel_DF):
    return matmul(x, kernel_DF), (x, kernel_DF)


def _backward(kept, dy):
    x, kernel_DF = kept
    # All rows in one dimension: over two, XLA:CPU transposes what it sums, 1.3 times the feed-forward's time.
    x_ND, dy_NF = (y.reshape(-1, y.shape[-1]) for y in (x, dy))
    return jnp.einsum("...F,DF->...D", dy, kernel_DF), jnp.einsum("ND,NF->DF", x_ND, dy_NF)


matmul.defvjp(_forward, _backward)
