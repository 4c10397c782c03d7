"""The devices as one axis named "data", and what lies on it how."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from bert_tpu import chips, command

# Peak dense bfloat16 FLOP/s of one JAX device; also of a generation and a name that are no longer in use.
PEAK_FLOPS = {chip.kind: chip.flops / chip.devices for chip in chips.CHIPS.values()}
PEAK_FLOPS |= {"TPU v2": 22.5e12, "TPU v5p": PEAK_FLOPS["TPU v5"]}


def make(devices) -> Mesh:
    """All of `devices` along "data". XLA decides the layout of what is inside a step (Auto)."""
    return Mesh(np.asarray(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def rows(mesh) -> NamedSharding:
    """The first dimension cut over all devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_rows(mesh, batch_size, parts):
    """Raises UserError unless each device gets the same number of rows in each of `parts` parts."""
    check_division(batch_size, mesh.size, parts)


def check_division(batch_size, devices, parts):
    """The same of devices that are not there."""
    each = devices * parts
    if batch_size % each:
        raise command.UserError(
            f"batch_size {batch_size} does not divide over {devices} devices x {parts} parts of accumulation; "
            f"try {max(batch_size // each, 1) * each}"
        )


def put(batch, mesh):
    """Host arrays of this process' rows -> global arrays over the mesh."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(rows(mesh), x), batch)


def peak_flops(mesh):
    """Peak bfloat16 FLOP/s of the whole mesh; None where the device is in no table (a CPU)."""
    per_device = PEAK_FLOPS.get(mesh.devices.flat[0].device_kind)
    return per_device and per_device * mesh.size
