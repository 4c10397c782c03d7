"""Makes packed batches of a task's rows: as in pretraining, batch n is a function of (seeds, n) and of nothing else.

A batch has the examples that any other code would take, the next of a permutation. They share rows, and each attends
to itself alone, so that a task of short rows does not pay for its longest row.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bert_tpu.data import batch_spec, packing, token_rows

EMPTY = -1  # in place of the number of an example or a token


class Places(NamedTuple):
    """The sources of packed rows of L tokens and E slots."""

    start: np.ndarray  # [..., E], where each example begins in its row, 0 in an empty slot
    slot: np.ndarray  # [..., L], the slot of each token's example
    token: np.ndarray  # [..., L], the token's number among all tokens of the examples, EMPTY for padding


class TaskBatches:
    """The training batches of one or several seeds; each seed shows each example once an epoch, in its own order."""

    def __init__(
        self,
        rows: token_rows.Rows,
        *,
        seeds: Sequence[int],
        batch_size: int,
        num_steps: int,
        seq_len: int,
        multiple: int,
    ):
        """Plans the batches, which all have one shape, [rows, seeds, ...].

        rows: the examples
        seeds: one for each training
        batch_size: examples of a seed's step
        num_steps: steps in all
        seq_len: tokens of a packed row, at least those of the longest example
        multiple: the number of a batch's packed rows is a multiple of it, the least that fits the fullest batch
        """
        self._rows, self.seq_len, self._num_seeds = rows, seq_len, len(seeds)
        self.batch_size = batch_size * len(seeds)  # examples of a step
        self.order = _order(len(rows.lengths), seeds, batch_size, num_steps)  # [steps, seeds, batch_size]
        lengths = np.where(self.order == EMPTY, 0, rows.lengths[self.order])
        self._row = first_fit(lengths.reshape(-1, batch_size), seq_len).reshape(self.order.shape)
        self.packed_rows = -(-(1 + int(self._row.max())) // multiple) * multiple
        # As many as a row of the shortest examples has. Dropout counts slots, so all seeds must have the same number.
        self.slots = max(1, min(batch_size, int(np.sum(np.cumsum(np.sort(rows.lengths)) <= seq_len))))

    def used_lens(self) -> tuple[int, ...]:
        """Returns the one length of the rows."""
        return (self.seq_len,)

    def mean_examples(self) -> float:
        """Returns the examples of a step, as a mean over all steps: the last batch of an epoch may have fewer."""
        return np.count_nonzero(self.order != EMPTY) / len(self.order)

    def batch_share(self, step: int) -> float:
        """Returns 1: all batches have the same rows, some of them empty."""
        del step
        return 1.0

    def rows_before(self, step: int, seq_len: int) -> int:
        """Returns the rows of the steps 0 .. step - 1."""
        return step * self.rows(seq_len)

    def rows(self, seq_len: int) -> int:
        """Returns the rows of a global batch, of all seeds."""
        del seq_len
        return self.packed_rows * self._num_seeds

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of a global batch by name; all int32."""
        numbers = np.full((self.packed_rows, self._num_seeds, self.slots), EMPTY)
        return {name: value.shape for name, value in lay_out(self._rows, numbers, self.seq_len).items()}

    def batches(self, first_step: int, hosts: int = 1, host: int = 0) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Yields (sequence length, rows of this host) of the batches from `first_step` on."""
        host_rows = self.packed_rows // hosts
        for order, row in zip(self.order[first_step:], self._row[first_step:], strict=True):
            numbers = _grid(order, row, self.packed_rows, self.slots)[host * host_rows : (host + 1) * host_rows]
            yield self.seq_len, lay_out(self._rows, numbers, self.seq_len)

    def check_division(self, devices: int, parts: Mapping[int, int], first_step: int = 0) -> None:
        """Raises UserError unless each device gets the same number of rows in each of `parts[seq_len]` parts.

        first_step: has no effect, since all batches have as many rows
        """
        batch_spec.check_rows("packed rows", self.packed_rows, devices, parts[self.seq_len])

    def evaluation_batches(
        self, rows: token_rows.Rows, hosts: int = 1, host: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
        """Yields batches that show each of `rows` once, in training's shape but without seeds and labels.

        Each is (numbers of the examples in all hosts' rows [rows, slots], numbers of their tokens [rows, seq_len],
        this host's batch).
        """
        packed = packing.pack(rows.lengths, self.seq_len, self.slots)
        filler = np.full((-len(packed) % self.packed_rows, self.slots), EMPTY)
        host_rows = self.packed_rows // hosts
        own = slice(host * host_rows, (host + 1) * host_rows)
        for numbers in np.concatenate([packed, filler]).reshape(-1, self.packed_rows, self.slots):
            places = _places(rows, numbers, self.seq_len)
            yield numbers, places.token, {name: value[own] for name, value in _inputs(rows, places).items()}

    def evaluation_shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the shapes of a global batch of `evaluation_batches` by name."""
        return {name: (shape[0], *shape[2:]) for name, shape in self.shapes().items() if name != "labels"}


def _order(number: int, seeds: Sequence[int], batch_size: int, num_steps: int) -> np.ndarray:
    """Returns the examples of each batch, int32 [steps, seeds, batch_size]; EMPTY after the last of an epoch."""
    steps = -(-number // batch_size)  # an epoch
    order = np.full((len(seeds), -(-num_steps // steps), steps * batch_size), EMPTY, np.int32)
    for place, seed in enumerate(seeds):
        for epoch in range(order.shape[1]):
            order[place, epoch, :number] = np.random.default_rng((seed, epoch)).permutation(number)
    return np.ascontiguousarray(order.reshape(len(seeds), -1, batch_size)[:, :num_steps].swapaxes(0, 1))


def first_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Returns the row of each item of a batch, int32 [batches, items]; EMPTY for items of length 0.

    First fit by decreasing length, in all batches at a time: a batch is too small for the histogram of packing.pack.

    lengths: int [batches, items], in tokens
    capacity: tokens of a row
    """
    batch = np.arange(len(lengths))
    by_length = np.argsort(-lengths, axis=1, kind="stable")
    room = np.full(lengths.shape, capacity, np.int32)
    rows = np.full(lengths.shape, EMPTY, np.int32)
    for item in by_length.T:
        length = lengths[batch, item]
        row = np.argmax(room >= length[:, None], axis=1)
        room[batch, row] -= length
        rows[batch, item] = np.where(length, row, EMPTY)
    return rows


def _grid(order: np.ndarray, row: np.ndarray, packed_rows: int, slots: int) -> np.ndarray:
    """Returns the examples in each packed row, [packed_rows, seeds, slots], EMPTY after the last.

    order: [seeds, batch_size], the step's examples
    row: [seeds, batch_size], the packed row of each
    """
    is_used = row != EMPTY
    seed = np.broadcast_to(np.arange(len(order))[:, None], order.shape)
    place = (row.astype(np.int64) * len(order) + seed)[is_used]
    by_place = np.argsort(place, kind="stable")
    place = place[by_place]
    slot = np.arange(len(place)) - np.searchsorted(place, place)
    grid = np.full((packed_rows * len(order), slots), EMPTY)
    grid[place, slot] = order[is_used][by_place]
    return grid.reshape(packed_rows, len(order), slots)


def lay_out(rows: token_rows.Rows, numbers: np.ndarray, seq_len: int) -> dict[str, np.ndarray]:
    """Returns the batch of packed rows of the examples `numbers`: int32 arrays, the inputs of Bert.encode and labels.

    Labels of examples are [..., slots], IGNORED in an empty slot; float32 ones are kept bit for bit, so that a batch
    has one type. Spans are [..., slots, 2], places in the packed row. Tags are [..., seq_len].

    rows: the examples
    numbers: int [..., slots], the examples of each packed row, EMPTY in an empty slot
    seq_len: tokens of a packed row
    """
    places, is_used = _places(rows, numbers, seq_len), numbers != EMPTY
    labels = np.ascontiguousarray(rows.labels)
    if labels.dtype == np.float32:
        labels = labels.view(np.int32)
    if labels.ndim == 1 and len(labels) == rows.starts[-1] != len(rows.lengths):
        labels = np.where(places.token != EMPTY, labels[np.maximum(places.token, 0)], token_rows.IGNORED)
    elif labels.ndim == 1:
        labels = np.where(is_used, labels[np.maximum(numbers, 0)], token_rows.IGNORED)
    else:
        labels = np.where(is_used[..., None], labels[np.maximum(numbers, 0)] + places.start[..., None], 0)
    return _inputs(rows, places) | {"labels": labels.astype(np.int32)}


def _inputs(rows: token_rows.Rows, places: Places) -> dict[str, np.ndarray]:
    """Returns the batch of these places without its labels."""
    is_real, token = places.token != EMPTY, np.maximum(places.token, 0)
    batch = {
        "input_ids": np.where(is_real, rows.ids[token], 0),
        "token_type_ids": np.where(is_real, rows.types[token], 0),
        "attention_mask": np.where(is_real, places.slot + 1, 0),
        "example_starts": places.start,
    }
    return {name: value.astype(np.int32) for name, value in batch.items()}


def _places(rows: token_rows.Rows, numbers: np.ndarray, seq_len: int) -> Places:
    number = np.maximum(numbers, 0)
    first = rows.starts[number]
    length = np.where(numbers == EMPTY, 0, rows.starts[number + 1] - first)
    end = np.cumsum(length, axis=-1)
    start, place = end - length, np.arange(seq_len)
    ended = np.sum(place >= end[..., None], axis=-2)  # how many examples end before each token
    slot = np.minimum(ended, numbers.shape[-1] - 1)
    token = np.take_along_axis(first - start, slot, axis=-1) + place
    return Places(np.where(numbers == EMPTY, 0, start), slot, np.where(ended < numbers.shape[-1], token, EMPTY))
