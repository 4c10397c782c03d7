"""The devices as one axis named "data", and what lies on it how."""

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from bert_tpu.hardware import chips

# Peak dense bfloat16 FLOP/s of one JAX device; also of a generation and a name that are no longer in use.
PEAK_FLOPS = {chip.kind: chip.flops / chip.devices for chip in chips.CHIPS.values()}
PEAK_FLOPS |= {"TPU v2": 22.5e12, "TPU v5p": PEAK_FLOPS["TPU v5"]}

AXIS = "data"
WHOLE, ROWS = PartitionSpec(), PartitionSpec(AXIS)  # a copy on each device; the first dimension cut


def make(devices) -> Mesh:
    """All of `devices` along "data". XLA decides the layout of what is inside a step (Auto)."""
    return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh) -> NamedSharding:
    """A whole copy on every device."""
    return NamedSharding(mesh, WHOLE)


def rows(mesh, dimension=0) -> NamedSharding:
    """One dimension cut over all devices."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * dimension, AXIS))


def on_each(mesh, function, in_specs, out_specs):
    """`function` of each device's share of its arguments; collectives over AXIS are its own affair."""
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def put(batch, mesh):
    """Host arrays of this process' rows -> global arrays over the mesh."""
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(rows(mesh), x), batch)


def peak_flops(mesh):
    """Peak bfloat16 FLOP/s of the whole mesh; None where the device is in no table (a CPU)."""
    per_device = PEAK_FLOPS.get(mesh.devices.flat[0].device_kind)
    return per_device and per_device * mesh.size
