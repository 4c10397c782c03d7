"""Compiles small programs of known cost for absent TPUs. It runs in a separate process, because it loads libtpu.

python tests/helpers/tpu_programs.py DIR      writes NAME.hlo for each program
"""

import functools
import pathlib
import sys

import jax
from jax import lax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from bert_tpu.distributed import mesh
from bert_tpu.hardware import chips
from bert_tpu.planning import compiler

TRIPS, SIZE, WIDE = 7, 1024, 4096
RING = [(i, (i + 1) % 4) for i in range(4)]


def product(a, b):
    return a @ b


def scanned(x):
    return lax.scan(lambda c, _: (jnp.tanh(c @ c), None), x, None, length=TRIPS)[0]


def unrolled(x):
    for _ in range(TRIPS):
        x = jnp.tanh(x @ x)
    return x


def nested(x):
    return lax.fori_loop(2, 5, lambda _, c: scanned(c) * 0.5, x)


def branched(x):
    return lax.cond(x[0, 0] > 0, lambda c: unrolled(c @ c), lambda c: c + 1, x)


def overlapped(x, y):
    """A permutation that nothing waits for until the products are done."""
    return lax.ppermute(x, "data", RING), unrolled(y)


def waited_for(x, y):
    """The same permutation before the same products, which need its result."""
    moved = lax.ppermute(x, "data", RING)
    return moved, unrolled(y + moved[:SIZE])


def exchanged(kind, devices, x):
    """Runs a collective of this kind on `x`, the shard of one device."""
    return {
        "all-reduce": lambda: lax.psum(x, "data"),
        "all-reduce-bf16": lambda: lax.psum(x.astype(jnp.bfloat16), "data"),
        "all-gather": lambda: lax.all_gather(x, "data", tiled=True),
        "reduce-scatter": lambda: lax.psum_scatter(x, "data", tiled=True),
        "all-to-all": lambda: lax.all_to_all(x, "data", 0, 0, tiled=True),
        "collective-permute": lambda: lax.ppermute(x, "data", [(i, (i + 1) % devices) for i in range(devices)]),
        "scanned-all-reduce": lambda: lax.scan(lambda c, _: (lax.psum(jnp.tanh(c), "data"), None), x, None, TRIPS)[0],
    }[kind]()


KINDS = (
    "all-reduce", "all-reduce-bf16", "all-gather", "reduce-scatter", "all-to-all", "collective-permute",
    "scanned-all-reduce",
)  # fmt: skip


def main(directory):
    """Compiles all programs."""
    compiler.use_cpu_only()
    with compiler.hide_stderr():
        square = jax.ShapeDtypeStruct((WIDE, WIDE), jnp.bfloat16)
        for name in ("v3:2x2", "v4:2x2x1", "v5e:2x2", "v5p:2x2x1", "v6e:2x2", "v7x:2x2x1"):
            whole = mesh.replicated(compiler.make_mesh(chips.find(name)))
            jitted = jax.jit(product, in_shardings=(whole, whole), out_shardings=whole)
            save(directory, f"product-{name[: name.index(':')]}", jitted, square, square)
        devices = compiler.make_mesh(chips.find("v5e:2x2"))
        small = jax.ShapeDtypeStruct((SIZE, SIZE), jnp.float32)
        for function in (scanned, unrolled, nested, branched):
            jitted = jax.jit(function, in_shardings=mesh.replicated(devices), out_shardings=mesh.replicated(devices))
            save(directory, function.__name__, jitted, small)
        rows = jax.ShapeDtypeStruct((4 * SIZE, SIZE), jnp.float32)
        for kind in KINDS:
            of_shard = functools.partial(exchanged, kind, devices.size)
            data = PartitionSpec("data")
            jitted = jax.jit(jax.shard_map(of_shard, mesh=devices, in_specs=data, out_specs=data, check_vma=False))
            save(directory, kind, jitted, rows)
        for function in (overlapped, waited_for):
            specs = PartitionSpec("data"), PartitionSpec()
            jitted = jax.jit(jax.shard_map(function, mesh=devices, in_specs=specs, out_specs=specs, check_vma=False))
            save(directory, function.__name__, jitted, rows, small)


def save(directory, name, jitted, *shapes):
    """Compiles a program and writes its optimized text."""
    (directory / f"{name}.hlo").write_text(jitted.lower(*shapes).compile().as_text())


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
