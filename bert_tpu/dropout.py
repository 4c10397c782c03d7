"""Dropout from a hash of (seeds, place): no state, and the same masks on any number of devices."""

import jax
import jax.numpy as jnp


def keep_mask(seeds, shape, rate):
    """Booleans of `shape`, false with probability `rate`: a hash of (seeds, row, place in the row).

    `seeds`: uint32 [2], drawn for one site of one step. No state and no dependence on the sharding, so that a
    step's masks are the same on any number of devices; XLA computes them again in the backward pass instead of
    storing them. The mixing constants are lowbias32's (Chris Wellons, "Prospecting for Hash Functions", 2018);
    the second seed enters between the rounds, so that no site's mask is another's with its places permuted.
    """
    row = jax.lax.broadcasted_iota(jnp.uint32, (shape[0],) + (1,) * (len(shape) - 1), 0)
    row = _mix(row ^ seeds[0], seeds[1])
    place = jnp.zeros(shape, jnp.uint32)
    stride = 1
    for axis in reversed(range(1, len(shape))):
        place += jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
        stride *= shape[axis]
    return _mix(place ^ row, seeds[1] + row) >= jnp.uint32(rate * 2**32)


def _mix(x, seed):
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) + seed
    x = x * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def apply(x, seeds, rate):
    """`x` with a share `rate` of its elements zeroed and the rest scaled up; `x` itself where `seeds` is None."""
    if seeds is None or rate == 0.0:
        return x
    return jnp.where(keep_mask(seeds, x.shape, rate), x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), 0)
