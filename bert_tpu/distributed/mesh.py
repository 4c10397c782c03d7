"""The device mesh (one axis, "data") and how arrays are sharded over it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
import numpy as np

from bert_tpu.core import joined
from bert_tpu.hardware import chips, gpus

# Peak dense bfloat16 FLOP/s of one JAX device, by its kind; with a generation and a name that are no longer in use.
PEAK_FLOPS = {chip.kind: chip.flops / chip.devices for chip in chips.CHIPS.values()}
PEAK_FLOPS |= {kind: gpu.flops for kind, gpu in gpus.GPUS.items() if gpu.flops}
PEAK_FLOPS |= {"TPU v2": 22.5e12, "TPU v5p": PEAK_FLOPS["TPU v5"]}

AXIS = "data"
WHOLE, ROWS = PartitionSpec(), PartitionSpec(AXIS)  # a copy on each device; the first dimension cut


def make(devices: Sequence[jax.Device]) -> Mesh:
    """Returns the mesh of all `devices` along "data". XLA decides the layout of arrays inside a step (Auto)."""
    return Mesh(np.asarray(devices), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of an array that every device has whole."""
    return NamedSharding(mesh, WHOLE)


def row_sharding(mesh: Mesh, dimension: int = 0) -> NamedSharding:
    """Returns the sharding of an array whose `dimension` is cut over all devices."""
    return NamedSharding(mesh, PartitionSpec(*(None,) * dimension, AXIS))


def map_shards(mesh: Mesh, function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """Returns `function` mapped over the devices (jax.shard_map).

    mesh: the devices
    function: gets one device's shards; it calls the collectives over AXIS itself
    in_specs, out_specs: pytrees of PartitionSpec, of the arguments and of the results
    """
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)


def put_batch(batch: Mapping[str, Any], mesh: Mesh) -> joined.Joined:
    """Returns the global batch as one array, cut by rows over the mesh, from NumPy arrays of this process' rows."""
    rows = batch if isinstance(batch, joined.Joined) else joined.join(batch, common=1)
    return joined.Joined(jax.make_array_from_process_local_data(row_sharding(mesh), rows.array), rows.layout)


def peak_flops(mesh: Mesh) -> float | None:
    """Returns the peak bfloat16 FLOP/s of the whole mesh; None for a device whose peak no table has (a CPU)."""
    per_device = PEAK_FLOPS.get(mesh.devices.flat[0].device_kind)
    return per_device and per_device * mesh.size
