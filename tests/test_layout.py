"""Layout: what is packed comes back as it was, and what fills the vocabulary up takes no part."""

import jax
import numpy as np
import pytest
import small

from bert_tpu import command, layout


@pytest.fixture(scope="module")
def packed():
    return layout.pack(small.params())


def test_what_is_packed_comes_back(packed):
    back = layout.unpack(packed, small.SECTION["vocab_size"])
    jax.tree.map(np.testing.assert_array_equal, back, small.params())


def test_the_vocabulary_is_filled_up_to_whole_tiles_of_any_pod(packed):
    assert packed["embeddings"]["word"].shape[0] == packed["mlm"]["bias"].shape[0] == 256
    assert [layout.rows(size) for size in (1, 256, 257, 30_522)] == [256, 256, 512, 30_720]
    assert not packed["embeddings"]["word"][small.SECTION["vocab_size"] :].any()


def test_another_vocabulary_that_fills_up_to_the_same_is_refused(packed):
    size = small.SECTION["vocab_size"]
    with pytest.raises(command.UserError, match=rf"have {size} pieces and the model {size + 1}: .*={size}"):
        layout.unpack(packed, size + 1)


def test_a_stack_may_be_a_tuple(packed):
    loose = packed | {"layers": jax.tree.map(tuple, packed["layers"])}
    apart = layout.apart(loose)
    np.testing.assert_array_equal(apart["layer_1"]["up"]["kernel"], small.params()["layer_1"]["up"]["kernel"])
    assert set(apart) == set(small.params())
