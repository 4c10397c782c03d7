"""Lets TensorFlow read the text of a corpus without a copy of it."""

import numpy as np
import tensorflow as tf

from bert_tpu.core import aligned
from bert_tpu.data import chunks


def of_text(text: chunks.Text) -> chunks.Text:
    """Returns a text whose arrays are tensors. They share the memory of those arrays that `aligned` made.

    tf.constant would copy them twice, for each sequence length again: 8 bytes a token.
    """
    return chunks.Text(*map(_share, text))


def _share(array: np.ndarray) -> tf.Tensor:
    if not aligned.is_aligned(array):
        copy = aligned.empty(array.size, array.dtype)
        copy[:] = array
        array = copy
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
