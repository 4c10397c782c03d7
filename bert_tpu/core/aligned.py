"""Makes NumPy arrays whose memory TensorFlow and XLA can use where it is."""

import numpy as np
import numpy.typing as npt

BYTES = 64  # at a multiple of which an array must begin


def empty(size: int, dtype: npt.DTypeLike) -> np.ndarray:
    """Returns an array [size] that is not filled."""
    wanted = size * np.dtype(dtype).itemsize
    raw = np.empty(wanted + BYTES, np.uint8)
    start = -raw.ctypes.data % BYTES
    return raw[start : start + wanted].view(dtype)


def is_aligned(array: np.ndarray) -> bool:
    """True if an array lies in one piece, may be written, and begins where it must."""
    return array.ctypes.data % BYTES == 0 and array.flags.c_contiguous and array.flags.writeable
