"""The loss of a bfloat16 step on CPUs, in blocks of the table: values of float64, no pass over all at each block."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_tpu.distributed import mesh
from bert_tpu.model import cross_entropy

N, WIDTH, BLOCKS = 40, 32, 3
V = BLOCKS * cross_entropy.CPU_BLOCK


def gradients(h_ND, table_VD, bias_V, labels_N):
    def total(*inputs):
        return jnp.sum(cross_entropy.tied(*inputs, labels_N)[0])

    return jax.value_and_grad(total, (0, 1, 2))(h_ND, table_VD, bias_V)


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(0)
    h_ND, table_VD, bias_V = (rng.normal(size=shape) for shape in ((N, WIDTH), (V, WIDTH), (V,)))
    return h_ND, table_VD / WIDTH**0.5, 0.1 * bias_V, rng.integers(0, V, N)


@pytest.fixture(scope="module")
def compiled(arrays):
    """The function as a part of a step for CPUs, and its arguments."""
    h_ND, table_VD, bias_V, labels_N = arrays
    inputs = jnp.bfloat16(h_ND), jnp.float32(table_VD), jnp.float32(bias_V), jnp.asarray(labels_N)
    on_cpu = mesh.map_shards(mesh.make(jax.devices("cpu")[:1]), gradients, (mesh.WHOLE,) * 4, mesh.WHOLE)
    return jax.jit(on_cpu).lower(*inputs).compile(), inputs


def test_the_loss_and_its_gradients_are_those_of_float64(arrays, compiled):
    function, inputs = compiled
    loss, ours = function(*inputs)
    h_ND, table_VD, bias_V = (np.asarray(x, np.float64) for x in inputs[:3])
    logits_NV = h_ND @ table_VD.T + bias_V
    p_NV = np.exp(logits_NV - logits_NV.max(1, keepdims=True))
    p_NV /= p_NV.sum(1, keepdims=True)
    dz_NV = p_NV - np.eye(V)[arrays[3]]
    wanted = dz_NV @ table_VD, dz_NV.T @ h_ND, dz_NV.sum(0)
    assert float(loss) == pytest.approx(-np.log(p_NV[np.arange(N), arrays[3]]).sum(), rel=1e-3)
    for x, theirs in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float64), theirs, atol=2**-7 * np.abs(theirs).max())


def test_no_piece_costs_a_pass_over_all_and_no_product_has_eight_rows(compiled):
    """XLA:CPU writes bfloat16 into a stack by converting the whole stack, and is slow at a product of eight rows."""
    text = compiled[0].as_text()
    stacks = re.findall(rf"(\w+)\[{BLOCKS},{cross_entropy.CPU_BLOCK},{N}\]\S* dynamic-update-slice", text)
    assert set(stacks) == {"u16"}
    assert not re.search(rf"f32\[{BLOCKS},{cross_entropy.CPU_BLOCK},{N}\]\S* convert", text)
    assert f"f32[{V},8]" in text
    assert f"f32[8,{V}]" not in text
