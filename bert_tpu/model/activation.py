"""The two forms of GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""

import jax
import jax.numpy as jnp


def normal_cdf(x: jax.Array) -> jax.Array:
    """Returns the normal distribution function as a tanh of an odd polynomial.

    The fit minimizes the largest error of x times it, which is 2.6e-5; bfloat16 resolves 4e-3 at 1. A tanh is one
    instruction of a TPU, an erf about thirty.
    """
    square = jnp.minimum(x * x, 36.0)
    return 0.5 + 0.5 * jnp.tanh(x * (0.7975079 + square * (0.03700565 - 0.0003515168 * square)))


def gelu(x: jax.Array) -> jax.Array:
    """Returns the erf form: x times the normal distribution function."""
    return _gelu_bfloat16(x) if x.dtype == jnp.bfloat16 else 0.5 * x * (1.0 + jax.lax.erf(x * 0.5**0.5))


@jax.custom_vjp
def _gelu_bfloat16(x: jax.Array) -> jax.Array:
    return _gelu_forward(x)[0]


def _gelu_forward(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    wide = x.astype(jnp.float32)
    return (wide * normal_cdf(wide)).astype(x.dtype), x


def _gelu_backward(x: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    wide = x.astype(jnp.float32)
    _, slope = jax.jvp(lambda x: x * normal_cdf(x), (wide,), (jnp.ones_like(wide),))
    return ((dy * slope).astype(x.dtype),)


_gelu_bfloat16.defvjp(_gelu_forward, _gelu_backward)


FORMS = {"gelu": gelu, "gelu_new": lambda x: jax.nn.gelu(x, approximate=True)}
