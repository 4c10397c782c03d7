"""Arrays that travel as one come back as they were, and a program takes no other layout than its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_tpu.core import joined
from bert_tpu.distributed import mesh

SHAPES = {"label": (16,), "ids": (16, 9), "starts": (16, 2, 3), "mask": (16, 9), "none": (16, 0)}


def arrays(dtype=np.int32):
    rng = np.random.default_rng(0)
    return {name: rng.integers(-(2**31), 2**31, shape).astype(dtype) for name, shape in SHAPES.items()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    jax.tree.map(np.testing.assert_array_equal, dict(one), dict(other))


@pytest.mark.parametrize("numpy", [np, jnp], ids=["NumPy", "JAX"])
def test_every_array_comes_back_bit_by_bit(numpy):
    parts = {name: numpy.asarray(value) for name, value in arrays().items()}
    whole = joined.join(parts, common=1)
    assert whole.array.shape == (16, 25)
    assert isinstance(whole.array, type(parts["ids"]))
    assert_same(whole, arrays())
    assert list(whole) == ["ids", "mask", "starts", "label", "none"]  # the widest first
    assert (numpy is jnp) or np.shares_memory(whole["ids"], whole.array)
    with pytest.raises(KeyError):
        whole["labels"]


def test_nothing_needs_to_be_common():
    sums = {"loss": jnp.ones((2, 3)), "skipped": jnp.zeros(2)}
    whole = joined.join(sums, common=0)
    assert whole.array.shape == (8,)
    assert_same(whole, sums)


def test_functions_of_the_one_array_act_on_each():
    whole = joined.join(arrays(), common=1)
    halves = jax.tree.map(lambda x: x.reshape(8, 2, -1), whole)
    assert_same(halves, {name: value.reshape(8, 2, *value.shape[1:]) for name, value in arrays().items()})
    assert_same(jax.tree.map(lambda x: x[3], whole), {name: value[3] for name, value in arrays().items()})


def test_arrays_of_two_types_are_refused():
    with pytest.raises(TypeError, match="not of float32, int32"):
        joined.join(arrays() | {"mask": np.ones((16, 9), np.float32)}, common=1)


def test_a_program_takes_its_own_layout_alone():
    """Two layouts may have as many columns as each other."""
    program = jax.jit(lambda batch: dict(batch)).lower(joined.abstract(SHAPES, np.int32)).compile()
    assert_same(program(joined.join(arrays(), common=1)), arrays())
    renamed = {"types" if name == "mask" else name: value for name, value in arrays().items()}
    with pytest.raises(TypeError, match="pytree"):
        program(joined.join(renamed, common=1))


@pytest.mark.parametrize("is_joined", [False, True])
def test_each_device_gets_its_rows(is_joined):
    batch = joined.join(arrays(), common=1) if is_joined else arrays()
    placed = mesh.put_batch(batch, mesh.make(jax.devices()))
    (leaf,) = jax.tree.leaves(placed)
    assert [shard.data.shape for shard in leaf.addressable_shards] == [(2, 25)] * 8
    assert_same(jax.device_get(placed), arrays())
