"""Products of a bfloat16 step on CPUs, which are computed in their own way, equal float64's; only they are."""

import re

import jax
import jax.numpy as jnp
from jax.sharding import AbstractDevice, AbstractMesh, AxisType
import numpy as np
import pytest

from bert_tpu.distributed import mesh
from bert_tpu.model import matmul

EPSILON = 2.0**-8  # of a number rounded to bfloat16, half of its last digit's step


def on_cpu(function):
    """Returns the function as a part of a step for CPUs: products look at the mesh."""
    return jax.jit(mesh.map_shards(mesh.make(jax.devices("cpu")[:1]), function, mesh.WHOLE, mesh.WHOLE))


def drawn(seed, *shape, scale=1.0):
    return jnp.asarray(scale * np.random.default_rng(seed).standard_normal(shape), jnp.bfloat16)


def exact(x):
    return np.asarray(x, np.float64)


def near(ours, wanted, roundings=1):
    np.testing.assert_allclose(exact(ours), wanted, atol=roundings * EPSILON * np.abs(wanted).max())


@pytest.mark.parametrize("rows", [(2, 6), (3, 5)])  # in four parts, and in one
@pytest.mark.parametrize(("width", "features"), [(16, 24), (24, 16)])
def test_a_dense_layer_and_its_gradients(rows, width, features):
    x, kernel, bias, dy = (
        drawn(0, *rows, width),
        drawn(1, width, features),
        drawn(2, features),
        drawn(3, *rows, features),
    )
    y, gradients = on_cpu(lambda *inputs: (matmul.dense(*inputs), jax.vjp(matmul.dense, *inputs)[1](dy)))(
        x, kernel, bias
    )
    assert {z.dtype for z in (y, *gradients)} == {jnp.dtype(jnp.bfloat16)}
    near(y, exact(x) @ exact(kernel) + exact(bias), 2)
    near(gradients[0], exact(dy) @ exact(kernel).T)
    near(gradients[1], np.einsum("ABD,ABF->DF", exact(x), exact(dy)))
    near(gradients[2], exact(dy).sum((0, 1)))


def test_gradients_are_summed_in_float32():
    """In bfloat16 a sum of ones stops at 256."""
    x, kernel, bias, dy = jnp.ones((4, 1024, 8)), jnp.ones((8, 16)), jnp.zeros(16), jnp.ones((4, 1024, 16))
    inputs = [z.astype(jnp.bfloat16) for z in (x, kernel, bias)]
    _, dkernel, dbias = on_cpu(lambda *z: jax.vjp(matmul.dense, *z)[1](dy.astype(jnp.bfloat16)))(*inputs)
    np.testing.assert_array_equal(exact(dkernel), 4096)
    np.testing.assert_array_equal(exact(dbias), 4096)


SPECS = "BHKL,BHKT->BHLT", "BHLT,BHKT->BHKL", "BHLT,BHKL->BHKT"
SIZES = {"B": 2, "H": 3, "K": 8, "L": 12, "T": 20}


@pytest.mark.parametrize("dtype", [None, jnp.float32])
@pytest.mark.parametrize("spec", SPECS)
def test_a_product_of_heads_and_its_gradients(spec, dtype):
    x_letters, y_letters, z_letters = re.split("->|,", spec)
    x, y, dz = (
        drawn(i, *(SIZES[letter] for letter in letters)) for i, letters in enumerate((x_letters, y_letters, z_letters))
    )

    def both(x, y):
        z, back = jax.vjp(lambda x, y: matmul.einsum(spec, x, y, dtype), x, y)
        return z, back(dz.astype(z.dtype))

    z, (dx, dy) = on_cpu(both)(x, y)
    assert z.dtype == (dtype or jnp.bfloat16)
    wanted = np.einsum(spec, exact(x), exact(y))
    np.testing.assert_allclose(exact(z), wanted, atol=np.abs(wanted).max() * (1e-6 if dtype else EPSILON))
    near(dx, np.einsum(f"{z_letters},{y_letters}->{x_letters}", exact(dz), exact(y)))
    near(dy, np.einsum(f"{x_letters},{z_letters}->{y_letters}", exact(x), exact(dz)))


def test_heads_are_those_of_the_other_form():
    x, kernel, bias = drawn(0, 2, 12, 24), drawn(1, 24, 24), drawn(2, 24)

    def to_heads(x, kernel, bias):
        return matmul.to_heads(x, kernel, bias, 3)

    def from_heads(x, kernel, bias):
        return matmul.from_heads(x.reshape(2, 12, 3, 8).transpose(0, 2, 3, 1), kernel, bias)

    for function in (to_heads, from_heads):
        plain = function(*(jnp.asarray(z, jnp.float32) for z in (x, kernel, bias)))
        near(on_cpu(function)(x, kernel, bias), exact(plain), 2)


def traced(dtype, *device):
    """Returns the jaxpr of the gradient of attention's products and a Dense layer, in a step for a device."""
    abstract_mesh = AbstractMesh(
        (1,), (mesh.AXIS,), axis_types=(AxisType.Auto,), abstract_device=AbstractDevice(*device)
    )

    def loss(x, kernel, bias):
        h = matmul.to_heads(matmul.dense(x, kernel, bias), kernel, bias, 3)
        p = matmul.einsum("BHKL,BHKT->BHLT", h, h, jnp.float32)
        o = matmul.einsum("BHLT,BHKT->BHKL", p.astype(dtype), h)
        return jnp.sum(matmul.from_heads(o, kernel, bias).astype(jnp.float32))

    inputs = [jax.ShapeDtypeStruct(shape, dtype) for shape in ((2, 12, 24), (24, 24), (24,))]
    inside = mesh.map_shards(abstract_mesh, jax.grad(loss, (0, 1, 2)), mesh.WHOLE, mesh.WHOLE)
    return str(jax.make_jaxpr(inside)(*inputs))


CPU, TPU = ("cpu", None, "cpu"), ("TPU v5 lite", 1, "tpu")


def test_only_cpus_have_their_own_products_and_only_in_bfloat16():
    cpu_types, tpu_types = (
        re.findall(r":(\w+)\[[\d,]*\] = dot_general", traced(jnp.bfloat16, *device)) for device in (CPU, TPU)
    )
    assert len(cpu_types) > 12
    assert set(cpu_types) == {"f32"}
    assert tpu_types.count("f32") == 3  # the scores
    assert tpu_types.count("bf16") == len(tpu_types) - 3
    in_float32 = [re.sub(r"device_kind=.*?platform=\w+", "", traced(jnp.float32, *device)) for device in (CPU, TPU)]
    assert "optimization_barrier" not in in_float32[0]
    assert in_float32[0] == in_float32[1]
