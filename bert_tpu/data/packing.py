"""Packs examples into shared rows, so that hardly any token is padding, and unpacks such rows.

An example's length must be known before it is drawn, or rows could not be filled. So packed rows depart from separate
ones: a chunk has a fixed budget of tokens, and a random B takes the room of the text that it replaces. It comes from
the first of 1 + EXTRA_DOCUMENTS drawn documents that is long enough, and does not begin too near its end.
"""

from collections.abc import Mapping
import itertools
from typing import NamedTuple

import numpy as np

from bert_tpu.data import batch_spec, chunks

SPECIAL = 3  # [CLS], [SEP], [SEP]
EXTRA_DOCUMENTS = 3  # drawn for a random B besides the first


class RowPlan(NamedTuple):
    """Rows of chunks; row r of the share's group g is one of bounds[g] .. bounds[g + 1] - 1."""

    chunks: chunks.Chunks
    budgets: np.ndarray  # int64 [N], most tokens of A and B of each chunk's example
    rows: np.ndarray  # int32 [rows, E], chunks by their numbers, -1 after the last
    bounds: np.ndarray
    chunk_bounds: np.ndarray  # the chunks of group g are chunk_bounds[g] .. chunk_bounds[g + 1] - 1

    @property
    def epoch_rows(self) -> np.ndarray:
        """Rows that each group has in an epoch, [groups]."""
        return np.diff(self.bounds)

    @property
    def examples_per_row(self) -> float:
        """Mean number of examples in a row."""
        return len(self.budgets) / len(self.rows)


def plan_rows(text: chunks.Text, document_start: np.ndarray, *, seq_len: int, slots: int, short_prob: float) -> RowPlan:
    """Packs the chunks of each group into rows of their own.

    text: the share's text
    document_start: [groups + 1], the first document of each group
    seq_len: tokens of a row
    slots: E, most examples in a row
    short_prob: share of chunks with a shorter target
    """
    most = seq_len - SPECIAL
    table = chunks.cut(text, target=most, short_prob=short_prob)
    sizes = text.sentence_start[table.last] - text.sentence_start[table.first]
    # A chunk of one sentence gives A alone, and always gets a random B: room for as much again.
    sizes = np.where(table.last - table.first == 1, 2 * sizes, sizes)
    budgets = np.minimum(sizes, table.target)
    starts = np.searchsorted(table.document, document_start)
    rows = [pack(budgets[a:b] + SPECIAL, seq_len, slots) for a, b in itertools.pairwise(starts)]
    rows = [np.where(group < 0, -1, group + start) for group, start in zip(rows, starts[:-1], strict=True)]
    bounds = np.cumsum([0, *map(len, rows)])
    return RowPlan(table, budgets, np.concatenate(rows).astype(np.int32), bounds, starts)


def pack(lengths: np.ndarray, capacity: int, slots: int) -> np.ndarray:
    """Returns the numbers of the items that share each row, int64 [rows, slots], -1 after the last.

    Each item is in one row. The method is best fit by decreasing length, on the histogram of lengths: as many rows of
    equal content as possible are filled at once, so that time does not grow with the number of items (Krell et al.
    2021, arXiv:2107.02027).

    lengths: int [N], tokens of each item
    capacity: tokens of a row
    slots: most items in a row
    """
    by_room: dict[int, list[tuple[int, tuple[int, ...]]]] = {}  # room left -> (number of rows, lengths in each)
    full: list[tuple[int, tuple[int, ...]]] = []
    counts = np.bincount(lengths, minlength=capacity + 1)
    for length in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[length])
        content: tuple[int, ...]
        while left:
            room = min((room for room in by_room if room >= length), default=None)
            if room is None:
                number, content, rest = left, (), capacity - length
            else:
                (number, content), rest = by_room[room].pop(), room - length
                if not by_room[room]:
                    del by_room[room]
            used = min(left, number)
            if room is not None and used < number:
                by_room.setdefault(room, []).append((number - used, content))
            left -= used
            content = (*content, length)
            (full if len(content) == slots else by_room.setdefault(rest, [])).append((used, content))
    # Items of equal length are taken in their order.
    order = np.argsort(lengths, kind="stable")
    next_of = np.cumsum(counts) - counts
    blocks = [np.empty((0, slots), np.int64)]
    for number, content in [*full, *itertools.chain.from_iterable(by_room.values())]:
        rows = np.full((number, slots), -1)
        for slot, length in enumerate(content):
            rows[:, slot] = order[next_of[length] : next_of[length] + number]
            next_of[length] += number
        blocks.append(rows)
    return np.concatenate(blocks)


def examples_of_steps(examples_per_row: float, spec: batch_spec.BatchSpec) -> dict[int, float]:
    """Returns the mean number of examples of a step with packed rows, by sequence length; {} without such steps.

    examples_per_row: mean of the corpus, 0 without packed rows
    """
    return {spec.seq_lens[-1]: examples_per_row * spec.packed_rows} if examples_per_row else {}


def note(examples_per_row: float, spec: batch_spec.BatchSpec, divisor: int) -> str:
    """Returns a sentence: the examples in a step's packed rows, and the packed_rows nearest to `batch_size` examples.

    examples_per_row: mean of the corpus
    spec: settings of the batches
    divisor: of the rows of a step: devices x parts of accumulation
    """
    examples = spec.packed_rows * examples_per_row
    sentence = f"{spec.packed_rows} packed rows hold about {examples:.0f} examples a step"
    multiple = spec.packed_multiple(divisor)
    fitting = max(round(spec.batch_size / examples_per_row / multiple), 1) * multiple
    if fitting == spec.packed_rows:
        return f"{sentence}, batch_size {spec.batch_size}"
    is_far = max(fitting, spec.packed_rows) >= 2 * min(fitting, spec.packed_rows)
    warning = "warning: " if is_far else ""
    return f"{warning}{sentence}: --config.data.packed_rows={fitting} comes nearest to batch_size {spec.batch_size}"


def unpack(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns a packed batch's examples in rows of their own, in the format of a batch that is not packed."""
    numbers, length = batch["attention_mask"], batch["input_ids"].shape[1]
    # The label cannot show which slots are used: without NSP it is -1, as in an empty one. The first slots fill first.
    rows, slots = np.nonzero(np.arange(batch["example_starts"].shape[1]) < numbers.max(axis=1, keepdims=True))
    starts = batch["example_starts"][rows, slots]
    columns = {"input_ids": length, "token_type_ids": length, "attention_mask": length}
    columns |= {name: batch[name].shape[1] for name in ("masked_positions", "masked_ids")}
    alone = {name: np.zeros((len(rows), width), np.int32) for name, width in columns.items()}
    for i, (row, slot, start) in enumerate(zip(rows, slots, starts, strict=True)):
        size = int((numbers[row] == slot + 1).sum())
        alone["attention_mask"][i, :size] = 1
        for name in ("input_ids", "token_type_ids"):
            alone[name][i, :size] = batch[name][row, start : start + size]
        places = batch["masked_positions"][row]
        own = (batch["masked_ids"][row] > 0) & (places >= start) & (places < start + size)
        alone["masked_positions"][i, : own.sum()] = places[own] - start
        alone["masked_ids"][i, : own.sum()] = batch["masked_ids"][row][own]
    return alone | {"next_sentence_label": batch["next_sentence_label"][rows, slots]}
