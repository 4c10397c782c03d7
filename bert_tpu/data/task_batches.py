"""A task's rows -> packed batches: like a pretraining's, batch n is a function of (seeds, n) and of nothing else.

A batch has the examples that any other code would take, the next of a permutation. They share rows, each attending to
itself alone, so that what is computed is what is read: a short task does not pay for its longest row.
"""

from typing import NamedTuple

import numpy as np

from bert_tpu.data import batch_spec, packing, token_rows

EMPTY = -1  # in place of an example's number, or a token's


class Places(NamedTuple):
    """Where what lies in packed rows of L tokens and E slots comes from."""

    start: np.ndarray  # [..., E], where each example begins in its row, 0 where there is none
    slot: np.ndarray  # [..., L], the slot of each token's example
    token: np.ndarray  # [..., L], the token's number among all of the rows', NOBODY for padding


class TaskBatches:
    """The training batches: for each seed each example once an epoch, in an order of its own."""

    def __init__(self, rows: token_rows.Rows, *, seeds, batch_size, num_steps, seq_len, multiple):
        """seq_len: tokens of a packed row, as many as the longest example has or more.

        Of packed rows, each batch has the multiple of `multiple` that the fullest one asks for: all of them are of one
        shape, [rows, seeds, ...].
        """
        self._rows, self.seq_len, self._several = rows, seq_len, len(seeds)
        self.batch_size = batch_size * len(seeds)  # examples of a step
        self.order = _order(len(rows.lengths), seeds, batch_size, num_steps)  # [steps, seeds, batch_size]
        lengths = np.where(self.order == EMPTY, 0, rows.lengths[self.order])
        self._row = first_fit(lengths.reshape(-1, batch_size), seq_len).reshape(self.order.shape)
        self.packed_rows = -(-(1 + int(self._row.max())) // multiple) * multiple
        # As many as a row of the shortest examples would have, whatever the seeds put together: dropout counts slots.
        self.slots = max(1, min(batch_size, int(np.sum(np.cumsum(np.sort(rows.lengths)) <= seq_len))))

    def used_lens(self) -> tuple[int, ...]:
        """The one length of the rows."""
        return (self.seq_len,)

    def before(self, step, seq_len) -> int:
        """How many of the steps 0 .. step - 1 have `seq_len`."""
        del seq_len  # there is one
        return step

    def rows(self, seq_len) -> int:
        """Rows of a global batch, of all seeds."""
        del seq_len
        return self.packed_rows * self._several

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of a global batch; all int32."""
        nobody = np.full((self.packed_rows, self._several, self.slots), EMPTY)
        return {name: value.shape for name, value in lay_out(self._rows, nobody, self.seq_len).items()}

    def batches(self, first_step, hosts=1, host=0):
        """Iterator over (sequence length, rows of this host) of the batches from `first_step` on."""
        each = self.packed_rows // hosts
        for order, row in zip(self.order[first_step:], self._row[first_step:], strict=True):
            numbers = _grid(order, row, self.packed_rows, self.slots)[host * each : (host + 1) * each]
            yield self.seq_len, lay_out(self._rows, numbers, self.seq_len)

    def check_division(self, devices, parts):
        """Raises UserError unless each device gets the same number of rows in each of `parts` parts."""
        batch_spec.check_rows({"packed rows": self.packed_rows}, devices, parts)

    def evaluation_batches(self, rows: token_rows.Rows, hosts=1, host=0):
        """Iterator over batches of the shape that training's have, without seeds and labels, which meet each row once.

        (numbers of the examples in all hosts' rows [rows, slots], of their tokens [rows, seq_len], this host's batch).
        """
        held = packing.pack(rows.lengths, self.seq_len, self.slots)
        filler = np.full((-len(held) % self.packed_rows, self.slots), EMPTY)
        each = self.packed_rows // hosts
        for numbers in np.concatenate([held, filler]).reshape(-1, self.packed_rows, self.slots):
            at = _places(rows, numbers, self.seq_len)
            share = {name: value[host * each : (host + 1) * each] for name, value in _inputs(rows, at).items()}
            yield numbers, at.token, share

    def evaluation_shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of a global batch of `evaluation_batches`."""
        return {name: (shape[0], *shape[2:]) for name, shape in self.shapes().items() if name != "labels"}


def _order(number, seeds, batch_size, num_steps):
    """The examples of each batch, int32 [steps, seeds, batch_size]; NOBODY behind the last of an epoch."""
    steps = -(-number // batch_size)  # an epoch
    order = np.full((len(seeds), -(-num_steps // steps), steps * batch_size), EMPTY, np.int32)
    for place, seed in enumerate(seeds):
        for epoch in range(order.shape[1]):
            order[place, epoch, :number] = np.random.default_rng((seed, epoch)).permutation(number)
    return np.ascontiguousarray(order.reshape(len(seeds), -1, batch_size)[:, :num_steps].swapaxes(0, 1))


def first_fit(lengths, capacity) -> np.ndarray:
    """The row that each item of a batch comes to lie in, int32 [batches, items]; NOBODY for those of length 0.

    First fit by decreasing length, of all batches at a time: a batch is too small for the histogram of packing.pack.
    """
    each = np.arange(len(lengths))
    by_length = np.argsort(-lengths, axis=1, kind="stable")
    room = np.full(lengths.shape, capacity, np.int32)
    found = np.full(lengths.shape, EMPTY, np.int32)
    for item in by_length.T:
        length = lengths[each, item]
        row = np.argmax(room >= length[:, None], axis=1)
        room[each, row] -= length
        found[each, item] = np.where(length, row, EMPTY)
    return found


def _grid(order, row, packed_rows, slots):
    """The examples that lie in each packed row, [packed_rows, seeds, slots], NOBODY behind them."""
    there = row != EMPTY
    seed = np.broadcast_to(np.arange(len(order))[:, None], order.shape)
    place = (row.astype(np.int64) * len(order) + seed)[there]
    by_place = np.argsort(place, kind="stable")
    place = place[by_place]
    slot = np.arange(len(place)) - np.searchsorted(place, place)
    grid = np.full((packed_rows * len(order), slots), EMPTY)
    grid[place, slot] = order[there][by_place]
    return grid.reshape(packed_rows, len(order), slots)


def lay_out(rows: token_rows.Rows, numbers, seq_len) -> dict[str, np.ndarray]:
    """The batch of packed rows that hold the examples `numbers`, [..., slots]: int32 arrays, as model.encode has them.

    labels: [..., slots] of examples, IGNORED where there is none; float32 ones are there bit for bit, so that all of
    a batch is of one type; [..., slots, 2] of spans, places in the packed row; [..., seq_len] of tags.
    """
    at, there = _places(rows, numbers, seq_len), numbers != EMPTY
    labels = np.ascontiguousarray(rows.labels)
    if labels.dtype == np.float32:
        labels = labels.view(np.int32)
    if labels.ndim == 1 and len(labels) == rows.starts[-1] != len(rows.lengths):
        labels = np.where(at.token != EMPTY, labels[np.maximum(at.token, 0)], token_rows.IGNORED)
    elif labels.ndim == 1:
        labels = np.where(there, labels[np.maximum(numbers, 0)], token_rows.IGNORED)
    else:
        labels = np.where(there[..., None], labels[np.maximum(numbers, 0)] + at.start[..., None], 0)
    return _inputs(rows, at) | {"labels": labels.astype(np.int32)}


def _inputs(rows, at):
    """The batch of these places, all but its labels."""
    real, token = at.token != EMPTY, np.maximum(at.token, 0)
    batch = {
        "input_ids": np.where(real, rows.ids[token], 0),
        "token_type_ids": np.where(real, rows.types[token], 0),
        "attention_mask": np.where(real, at.slot + 1, 0),
        "example_starts": at.start,
    }
    return {name: value.astype(np.int32) for name, value in batch.items()}


def _places(rows, numbers, seq_len) -> Places:
    number = np.maximum(numbers, 0)
    first = rows.starts[number]
    length = np.where(numbers == EMPTY, 0, rows.starts[number + 1] - first)
    end = np.cumsum(length, axis=-1)
    start, place = end - length, np.arange(seq_len)
    behind = np.sum(place >= end[..., None], axis=-2)  # how many examples end before each token
    slot = np.minimum(behind, numbers.shape[-1] - 1)
    token = np.take_along_axis(first - start, slot, axis=-1) + place
    return Places(np.where(numbers == EMPTY, 0, start), slot, np.where(behind < numbers.shape[-1], token, EMPTY))
