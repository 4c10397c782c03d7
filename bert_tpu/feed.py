"""A task's rows -> batches: like a pretraining's, batch n is a function of (seeds, n) and of nothing else.

Rows of all lengths come as the permutation has them; a batch is as long as its longest row asks for, of a few lengths
that are compiled. So what is learnt from is what any other code learns from, and short tasks pay for short rows.
"""

import numpy as np

from bert_tpu import recipe
from bert_tpu.tasks import task

NOBODY = -1  # in place of a row's number, where an epoch's last batch has fewer


class Feed:
    """The training batches: for each seed each row once an epoch, in an order of its own."""

    def __init__(self, rows: task.Rows, *, seeds, batch_size, num_steps, seq_lens):
        """seq_lens: rising; the last holds the longest row. Arrays of a batch are [rows, seeds, ...]."""
        self._rows, self.batch_size, self._several = rows, batch_size, len(seeds)
        self.index = _index(len(rows.lengths), seeds, batch_size, num_steps)  # [steps, rows, seeds]
        self.lens = lens(rows, self.index, seq_lens)
        self._before = {int(n): np.cumsum([0, *(self.lens == n)]) for n in seq_lens}

    def used_lens(self) -> tuple[int, ...]:
        """The lengths that have at least one step, short first."""
        return tuple(n for n, before in self._before.items() if before[-1])

    def before(self, step, seq_len) -> int:
        """How many of the steps 0 .. step - 1 have `seq_len`."""
        return int(self._before[seq_len][step])

    def rows(self, seq_len) -> int:
        """Rows of a global batch, of all seeds."""
        del seq_len  # each has as many
        return self.batch_size * self._several

    def shapes(self, seq_len) -> dict[str, tuple[int, ...]]:
        """Names and shapes of a global batch; all int32."""
        batch = take(self._rows, np.full((self.batch_size, self._several), NOBODY), seq_len)
        return {name: value.shape for name, value in batch.items()}

    def batches(self, first_step, hosts=1, host=0):
        """Iterator over (sequence length, rows of this host) of the batches from `first_step` on."""
        each = self.batch_size // hosts
        for index, seq_len in zip(self.index[first_step:], self.lens[first_step:].tolist(), strict=True):
            yield seq_len, take(self._rows, index[host * each : (host + 1) * each], seq_len)

    def check_division(self, devices, parts):
        """Raises UserError unless each device gets the same number of rows in each of `parts` parts."""
        recipe.check_rows({"batch_size": self.batch_size}, devices, parts)


def _index(number, seeds, batch_size, num_steps):
    steps = -(-number // batch_size)  # an epoch
    index = np.full((len(seeds), -(-num_steps // steps), steps * batch_size), NOBODY, np.int32)
    for place, seed in enumerate(seeds):
        for epoch in range(index.shape[1]):
            index[place, epoch, :number] = np.random.default_rng((seed, epoch)).permutation(number)
    return np.moveaxis(index.reshape(len(seeds), -1, batch_size)[:, :num_steps], 0, 2)


def lens(rows, index, seq_lens):
    """Of each batch of rows, index [batches, ...], the least of `seq_lens` that holds its longest, [batches]."""
    longest = np.where(index == NOBODY, 0, rows.lengths[index]).reshape(len(index), -1).max(axis=1)
    return np.array(seq_lens)[np.searchsorted(seq_lens, longest)]


def take(rows, index, seq_len) -> dict[str, np.ndarray]:
    """The batch of the rows that `index`, of any shape, numbers: int32 arrays of that shape, then tokens.

    `labels` that are float32 are there bit for bit, so that all of a batch is of one type.
    """
    there, number = index != NOBODY, np.maximum(index, 0)
    place = np.arange(seq_len)
    real = there[..., None] & (place < rows.lengths[number][..., None])
    token = np.where(real, rows.starts[number][..., None] + place, 0)

    def of_tokens(array, fill):
        return np.where(real, array[token], fill).astype(np.int32)

    labels = np.ascontiguousarray(rows.labels)
    if labels.dtype == np.float32:
        labels = labels.view(np.int32)
    by_token = labels.ndim == 1 and len(labels) == rows.starts[-1] != len(rows.lengths)
    return {
        "input_ids": of_tokens(rows.ids, 0),
        "token_type_ids": of_tokens(rows.types, 0),
        "attention_mask": real.astype(np.int32),
        "labels": of_tokens(labels, task.IGNORED) if by_token else labels[number].astype(np.int32),
    }


def in_order(rows, *, batch_size, seq_lens, hosts=1, host=0):
    """Iterator over (sequence length, numbers of all rows [batch_size], batch of this host's) that meets each row once.

    Short rows first. Without labels: these batches are to be predicted.
    """
    index, each = _by_length(rows, batch_size), batch_size // hosts
    for numbers, seq_len in zip(index, lens(rows, index, seq_lens).tolist(), strict=True):
        yield seq_len, numbers, _unlabelled(rows, numbers[host * each : (host + 1) * each], seq_len)


def shapes_in_order(rows, *, batch_size, seq_lens) -> dict[int, dict[str, tuple[int, ...]]]:
    """Sequence length -> shapes of a global batch, for the lengths that `in_order` has; builds one batch of each."""
    nobody, found = (
        np.full(batch_size, NOBODY),
        sorted(set(lens(rows, _by_length(rows, batch_size), seq_lens).tolist())),
    )
    return {n: {name: value.shape for name, value in _unlabelled(rows, nobody, n).items()} for n in found}


def _by_length(rows, batch_size):
    """The numbers of all rows, short ones first, [batches, batch_size]."""
    index = np.full(-(-len(rows.lengths) // batch_size) * batch_size, NOBODY, np.int32)
    index[: len(rows.lengths)] = np.argsort(rows.lengths, kind="stable")
    return index.reshape(-1, batch_size)


def _unlabelled(rows, index, seq_len):
    batch = take(rows, index, seq_len)
    del batch["labels"]
    return batch
