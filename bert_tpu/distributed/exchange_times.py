"""Times the forms of the sum of gradients on the devices that are there, and checks what they return."""

from collections.abc import Sequence
import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from bert_tpu.distributed import collectives, compiler_options
from bert_tpu.distributed import mesh as meshes

# Rows and columns of the matrices of `medium` that its devices cut: those of a layer, which travel in the compute
# type, and the table of pieces.
LAYER = ((512, 512),) * 4 + ((512, 2048), (2048, 512))
LAYERS, TABLE = 8, (30_720, 512)
REPEATS = 20
NUMBERS = 7  # summands are whole numbers from -3 to 3, so that each sum is exact in bfloat16 and in any order
SLOWER = 1.5  # an all-to-all is worth its time if it takes no more than this times a reduce-scatter, as most is hidden


def compare(devices: Sequence[jax.Device]) -> dict[str, Any]:
    """The result of `measure`, as "forms", and the form to train with, as "advice"."""
    forms = measure(meshes.make(devices))
    return {"forms": forms, "advice": advise(forms)}


def measure(mesh: Mesh, layers: int = LAYERS, table: tuple[int, int] = TABLE) -> dict[str, dict[str, Any]]:
    """Form -> {"ms": of one exchange that nothing hides, "right": True if each sum is exact}; all hosts call it.

    mesh: the devices that exchange
    layers: number of layers, with 12 MiB of float32 gradients each
    table: rows and columns of the table of pieces
    """
    results = {}
    for form in collectives.FORMS:
        exchange, one = jit_exchange(mesh, form, layers, table), jnp.float32(1)
        _, wrong = jax.block_until_ready(exchange(one))
        begun = time.perf_counter()
        for _ in range(REPEATS):
            last = exchange(one)
        jax.block_until_ready(last)
        passed_s = time.perf_counter() - begun
        results[form] = {"ms": round(1e3 * passed_s / REPEATS, 2), "right": int(wrong) == 0}
    return results


def jit_exchange(mesh: Mesh, form: str, layers: int, table: tuple[int, int]) -> jax.stages.Wrapped:
    """The jitted function scale -> (the sums of whole numbers times `scale`, how many of them are wrong).

    form: one of collectives.FORMS; the other arguments are those of `measure`
    """
    shapes = [shape for _ in range(layers) for shape in LAYER]
    specs = [jax.sharding.PartitionSpec(None, meshes.AXIS)] * len(shapes) + [meshes.ROWS]

    def exchange(scale: jax.Array) -> tuple[list[jax.Array], jax.Array]:
        own = jax.lax.axis_index(meshes.AXIS)
        # Each matrix has other numbers, or the compiler would exchange equal ones once.
        grads: list[Any] = [(scale * _numbers(shape, own + i),) for i, shape in enumerate(shapes)]
        sums = collectives.reduce_grads([*grads, scale * _numbers(table, own)], specs, form, jnp.bfloat16)
        expected = [_expected(shape, own, mesh.size, i) for i, shape in enumerate(shapes)]
        expected.append(_expected(table, own, mesh.size, 0))
        wrong = [jnp.sum(x.reshape(y.shape) != scale * y) for x, y in zip(sums, expected, strict=True)]
        return sums, jax.lax.psum(sum(wrong), meshes.AXIS)

    return jax.jit(
        meshes.map_shards(mesh, exchange, (meshes.WHOLE,), (specs, meshes.WHOLE)),
        compiler_options=compiler_options.find(mesh, form),
    )


def advise(results: dict[str, dict[str, Any]]) -> str:
    """The form to train with, by what `measure` returned; "" if none gave right sums."""
    right = {form: result["ms"] for form, result in results.items() if result["right"]}
    if "all-to-all" in right and right["all-to-all"] <= SLOWER * min(right.values()):
        return "all-to-all"
    return min(right, key=right.__getitem__, default="")


def _numbers(shape: tuple[int, ...], start: Any, first_row: Any = 0) -> jax.Array:
    """Small whole numbers, float32: a function of row, column and `start`. first_row: number of the first row"""
    row, column = (jax.lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (0, 1))
    return ((3 * (row + first_row) + column + start) % NUMBERS - NUMBERS // 2).astype(jnp.float32)


def _expected(shape: tuple[int, int], device: Any, devices: int, start: int) -> jax.Array:
    """The rows of the sum over all devices that belong to one. shape: of the whole matrix"""
    rows = shape[0] // devices
    own = (_numbers((rows, shape[1]), other + start, device * rows) for other in range(devices))
    return functools.reduce(jnp.add, own)
