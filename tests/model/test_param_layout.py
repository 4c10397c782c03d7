"""Packed parameters come back unchanged, and the padding of the vocabulary takes no part."""

from helpers import small_bert
import jax
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.model import param_layout


@pytest.fixture(scope="module")
def packed():
    return param_layout.pack(small_bert.params())


def test_packed_parameters_come_back_unchanged(packed):
    back = param_layout.unpack(packed, small_bert.SECTION["vocab_size"])
    jax.tree.map(np.testing.assert_array_equal, back, small_bert.params())


def test_the_vocabulary_is_padded_to_whole_tiles_of_any_pod(packed):
    assert packed["embeddings"]["word"].shape[0] == packed["mlm"]["bias"].shape[0] == 256
    assert [param_layout.padded_size(size) for size in (1, 256, 257, 30_522)] == [256, 256, 512, 30_720]
    assert not packed["embeddings"]["word"][small_bert.SECTION["vocab_size"] :].any()


def test_another_vocabulary_of_the_same_padded_size_is_refused(packed):
    size = small_bert.SECTION["vocab_size"]
    with pytest.raises(command.UserError, match=rf"have {size} pieces and the model {size + 1}: .*={size}"):
        param_layout.unpack(packed, size + 1)


def test_a_stack_may_be_a_tuple(packed):
    loose = packed | {"layers": jax.tree.map(tuple, packed["layers"])}
    apart = param_layout.split_layers(loose)
    np.testing.assert_array_equal(apart["layer_1"]["up"]["kernel"], small_bert.params()["layer_1"]["up"]["kernel"])
    assert set(apart) == set(small_bert.params())
