"""Dropout by a hash of (seeds, place): no state, and the same masks on any number of devices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Bits(NamedTuple):
    """Random bits of a site's rows, [..., 1], and of its columns, [C]; uint32."""

    rows: jax.Array
    columns: jax.Array


def bits(seeds: jax.Array | None, shape: tuple[int, ...]) -> Bits | None:
    """Returns the bits of a site of `shape`; None if `seeds` is None.

    seeds: uint32 [3], two drawn for the site in this step, and the number of the first row in the whole batch
    """
    if seeds is None:
        return None
    number = jax.lax.broadcasted_iota(jnp.uint32, (*shape[:-1], 1), 0) + seeds[2]
    for axis in range(1, len(shape) - 1):
        number = number * jnp.uint32(shape[axis]) + jax.lax.broadcasted_iota(jnp.uint32, number.shape, axis)
    columns = _mix(jax.lax.iota(jnp.uint32, shape[-1]) ^ seeds[1])
    # The barrier keeps XLA from computing a row's bits again for each of its elements.
    return Bits(*jax.lax.optimization_barrier((_mix(number ^ seeds[0]), columns)))


def keep_mask(bits: Bits, rate: float) -> jax.Array:
    """Returns booleans of the site's shape, false with probability `rate`.

    A site's bits are independent and uniform, so a sum of two is uniform and independent for any two places. One more
    round separates the places of a rectangle, whose four sums are tied. It costs a third of a full hash a place. XLA
    computes the mask again in the backward pass instead of storing it.
    """
    x = bits.rows + bits.columns
    return (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D) >= jnp.uint32(rate * 2**32)


def _mix(x: jax.Array) -> jax.Array:
    """Mixes all 32 bits: lowbias32, a bijection (Chris Wellons, "Prospecting for Hash Functions", 2018)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def apply(x: jax.Array, bits: Bits | None, rate: float) -> jax.Array:
    """Returns `x` with a share `rate` of its elements zeroed and the rest scaled up; `x` itself if `bits` is None."""
    if bits is None or rate == 0.0:
        return x
    return jnp.where(keep_mask(bits, rate), x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), 0)


def drop(x: jax.Array, seeds: jax.Array | None, rate: float) -> jax.Array:
    """Calls `apply` with the bits of `seeds` for a site of x's shape."""
    return apply(x, bits(seeds, x.shape), rate)
