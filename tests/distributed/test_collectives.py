"""The sum of gradients over devices, against NumPy and by each form."""

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
import numpy as np
import pytest

from bert_tpu.distributed import collectives, compiler_options
from bert_tpu.distributed import mesh as meshes

ROWS, COLUMNS, LAYERS = 24, 5, 2
ROW_SPEC = PartitionSpec(None, meshes.AXIS)


def summed(grads, form, dtype):
    """The gradients of `collectives.reduce_grads`. grads: stack, table and bias, each [devices, ...]"""
    devices = len(grads["bias"])
    mesh = meshes.make(jax.devices()[:devices])
    specs = {"stack": ROW_SPEC, "table": meshes.ROWS, "bias": meshes.WHOLE}

    def reduce(grads):
        own = {name: x[0] for name, x in grads.items()}
        own["stack"] = tuple(own["stack"])
        return collectives.reduce_grads(own, specs, form, dtype)

    return jax.device_get(jax.jit(meshes.map_shards(mesh, reduce, (meshes.ROWS,), specs))(grads))


def draw(devices):
    rng = np.random.default_rng(devices)
    shapes = {"stack": (LAYERS, ROWS, COLUMNS), "table": (ROWS, COLUMNS), "bias": (COLUMNS,)}
    return {name: rng.normal(size=(devices, *shape)).astype(np.float32) for name, shape in shapes.items()}


def neighbours_first(x):
    """The sum over the first dimension in the documented order."""
    while len(x) > 1:
        odd = x[len(x) - len(x) % 2 :]
        x = np.concatenate([x[: len(x) - len(odd) : 2] + x[1::2], odd])
    return x[0]


@pytest.mark.parametrize("form", collectives.FORMS)
@pytest.mark.parametrize("devices", [1, 2, 3, 6, 8])
def test_every_form_sums_in_float32(form, devices):
    grads = draw(devices)
    total = summed(grads, form, jnp.float32)
    for name, x in grads.items():
        np.testing.assert_allclose(total[name], x.astype(np.float64).sum(0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("devices", [2, 3, 6, 8])
def test_rows_that_travel_in_bfloat16_are_summed_in_float32_in_the_documented_order(devices):
    grads = draw(devices)
    total = summed(grads, "all-to-all", jnp.bfloat16)
    rounded = np.asarray(jnp.asarray(grads["stack"]).astype(jnp.bfloat16).astype(jnp.float32))
    np.testing.assert_array_equal(total["stack"], neighbours_first(rounded))
    # All else travels in float32.
    np.testing.assert_allclose(total["table"], grads["table"].sum(0), rtol=1e-5, atol=1e-6)


def test_rounding_on_the_wire_is_a_thousandth_of_the_gradient():
    """The bound of docs/performance.md: the root of the mean square of the error, relative to the sum."""
    grads = draw(8)
    total, true = summed(grads, "all-to-all", jnp.bfloat16)["stack"], grads["stack"].astype(np.float64).sum(0)
    assert 5e-4 < np.linalg.norm(total - true) / np.linalg.norm(true) < 2.5e-3


@pytest.mark.parametrize("form", collectives.FORMS)
@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_on_one_device_reaches_the_sum(form, wrong):
    grads = draw(4)
    grads["stack"][2, 1, 3, 4] = wrong
    total = summed(grads, form, jnp.bfloat16)["stack"]
    assert not np.isfinite(total[1, 3, 4])
    assert np.isfinite(total).sum() == total.size - 1


def test_other_devices_than_tpus_get_no_options():
    for form in collectives.FORMS:
        assert compiler_options.find(meshes.make(jax.devices()), form) == {}
    assert set(compiler_options.OPTIONS) == set(collectives.FORMS)
