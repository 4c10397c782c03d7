"""Arrays of one type as one array: moving it between host and devices costs one copy instead of one for each."""

from collections.abc import Iterator, Mapping
import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Layout = tuple[tuple[str, tuple[int, ...]], ...]  # (name, shape without the common dimensions) of each array, in order


@functools.partial(jax.tree_util.register_dataclass, data_fields=["array"], meta_fields=["layout"])
@dataclasses.dataclass(frozen=True, eq=False)
class Joined(Mapping[str, Any]):
    """Arrays by name, as parts of one. `joined[name]` cuts an array out, in NumPy without a copy.

    For JAX it is a pytree of one leaf. A compiled program refuses another layout than its own.
    """

    array: Any  # [common dimensions, columns]
    layout: Layout

    def __getitem__(self, name: str) -> Any:
        """Returns the array `name`."""
        begin = 0
        for other, shape in self.layout:
            end = begin + math.prod(shape)
            if other == name:
                return self.array[..., begin:end].reshape((*self.array.shape[:-1], *shape))
            begin = end
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        """Returns an iterator over the names."""
        return (name for name, _ in self.layout)

    def __len__(self) -> int:
        """Returns the number of arrays."""
        return len(self.layout)


def layout(shapes: Mapping[str, tuple[int, ...]]) -> Layout:
    """Returns the order of the arrays: the widest first, so that most of them begin where a tile of a TPU does.

    shapes: name -> shape without the common dimensions
    """
    return tuple(sorted(shapes.items(), key=lambda item: (-math.prod(item[1]), item[0])))


def join(arrays: Mapping[str, Any], common: int) -> Joined:
    """Returns NumPy's or JAX's arrays as one. Raises TypeError if they have several types.

    common: number of the first dimensions, in which all of them are equal
    """
    if len(types := {array.dtype for array in arrays.values()}) != 1:
        raise TypeError(f"arrays of one type can be joined, not of {', '.join(sorted(map(str, types))) or 'none'}")
    order = layout({name: array.shape[common:] for name, array in arrays.items()})
    parts = [arrays[name].reshape(*arrays[name].shape[:common], math.prod(shape)) for name, shape in order]
    concatenate: Any = np.concatenate if all(isinstance(part, np.ndarray) for part in parts) else jnp.concatenate
    return Joined(concatenate(parts, axis=-1), order)


def abstract(shapes: Mapping[str, tuple[int, ...]], dtype: Any) -> Joined:
    """Returns the Joined of a jax.ShapeDtypeStruct, to compile for. Its arrays have their rows in common.

    shapes: name -> shape [rows, ...]
    dtype: type of all arrays
    """
    (rows,) = {shape[0] for shape in shapes.values()}
    order = layout({name: shape[1:] for name, shape in shapes.items()})
    columns = sum(math.prod(shape) for _, shape in order)
    return Joined(jax.ShapeDtypeStruct((rows, columns), dtype), order)
