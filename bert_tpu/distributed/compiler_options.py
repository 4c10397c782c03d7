"""Options of XLA:TPU for the exchange of gradients."""

import functools
from typing import Any

import jax
from jax.sharding import Mesh, SingleDeviceSharding

# The compiler splits a reduce-scatter over 16 chips into an all-reduce, which moves twice the bytes, and a slice. This
# pass does it.
KEEP_REDUCE_SCATTER = {"xla_disable_hlo_passes": "reduce-scatter-decomposer"}
# Devices compute while an all-to-all moves data. Without it, they wait.
ASYNC_ALL_TO_ALL = {"xla_tpu_enable_async_all_to_all": True}
# Form of the exchange (collectives.FORMS) -> options.
OPTIONS: dict[str, dict[str, Any]] = {
    "all-to-all": KEEP_REDUCE_SCATTER | ASYNC_ALL_TO_ALL,
    "reduce-scatter": KEEP_REDUCE_SCATTER,
    "all-reduce": {},
}


def find(mesh: Mesh, form: str) -> dict[str, Any]:
    """The options that the compiler of the mesh's devices knows, by name; none where the devices are not TPUs.

    mesh: the devices of the program
    form: of the exchange of gradients, a key of OPTIONS
    """
    # A process compiles for its own devices. Those of an absent slice belong to no process.
    local = [device for device in mesh.devices.flat if device.process_index == jax.process_index()]
    device = (local or mesh.devices.flat)[0]
    if device.platform != "tpu" or mesh.size == 1:
        return {}
    return {name: value for name, value in OPTIONS[form].items() if _knows(device, name, value)}


@functools.cache
def _knows(device: jax.Device, name: str, value: Any) -> bool:
    """True if the device's compiler accepts the option; asked with a program of one addition."""
    number = jax.ShapeDtypeStruct((), float, sharding=SingleDeviceSharding(device))
    try:
        jax.jit(lambda x: x + 1).lower(number).compile(compiler_options={name: value})
    except jax.errors.JaxRuntimeError as fault:
        if "No such compile option" in str(fault):
            return False
        raise
    return True
