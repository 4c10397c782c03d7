"""Examples that share rows, so that hardly any token is padding: which chunks go together, and how to part them again.

An example's length must be known before it is drawn, or rows could not be filled: a chunk has a fixed budget of
tokens, short targets are drawn once for the table (as create_pretraining_data.py draws them), and a random B takes the
room of what it stands for: it comes from a document that is long enough, if one of OTHERS more is, and does not begin
too near its end. Named departures of packed rows, all three.
"""

import itertools
from typing import NamedTuple

import numpy as np

from bert_tpu.data import chunks

SPECIAL = 3  # [CLS], [SEP], [SEP]
EXTRA_DOCUMENTS = 3  # documents looked at for a random B beside the first


class RowPlan(NamedTuple):
    """Rows of chunks; row r of the share's group g is one of bounds[g] .. bounds[g + 1] - 1."""

    chunks: chunks.Chunks
    budgets: np.ndarray  # int64 [N], most tokens of A and B of each chunk's example
    rows: np.ndarray  # int32 [rows, E], chunks by their numbers, -1 behind the last
    bounds: np.ndarray
    chunk_bounds: np.ndarray  # the chunks of group g are chunk_bounds[g] .. chunk_bounds[g + 1] - 1

    @property
    def epoch_rows(self) -> np.ndarray:
        """The rows that each group has in an epoch, [groups]."""
        return np.diff(self.bounds)

    @property
    def examples_per_row(self) -> float:
        """On average."""
        return len(self.budgets) / len(self.rows)


def plan_rows(text, document_start, *, seq_len, slots, short_prob) -> RowPlan:
    """Packs each group's chunks by themselves. document_start: of the groups, in documents."""
    most = seq_len - SPECIAL
    table = chunks.cut(text, target=most, short_prob=short_prob)
    sizes = text.sentence_start[table.last] - text.sentence_start[table.first]
    # A chunk of one sentence gives A alone, and always gets a random B: room for as much again.
    sizes = np.where(table.last - table.first == 1, 2 * sizes, sizes)
    budgets = np.minimum(sizes, table.target)
    starts = np.searchsorted(table.document, document_start)
    rows = [pack(budgets[a:b] + SPECIAL, seq_len, slots) for a, b in itertools.pairwise(starts)]
    rows = [np.where(each < 0, -1, each + start) for each, start in zip(rows, starts[:-1], strict=True)]
    bounds = np.cumsum([0, *map(len, rows)])
    return RowPlan(table, budgets, np.concatenate(rows).astype(np.int32), bounds, starts)


def pack(lengths, capacity, slots) -> np.ndarray:
    """Numbers of the items that share each row, [rows, slots], -1 behind the last; each item is in one row.

    Best fit by decreasing length, on the histogram of lengths: as many rows of equal content as there can be are
    filled at once, so that time does not grow with the items (Krell et al. 2021, arXiv:2107.02027).
    """
    kinds: dict[int, list[tuple[int, tuple[int, ...]]]] = {}  # room left -> (how many rows, lengths in each)
    full: list[tuple[int, tuple[int, ...]]] = []
    counts = np.bincount(lengths, minlength=capacity + 1)
    for length in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[length])
        while left:
            room = min((room for room in kinds if room >= length), default=None)
            number, held = kinds[room].pop() if room is not None else (left, ())
            if room is not None and not kinds[room]:
                del kinds[room]
            used = min(left, number)
            if used < number:
                kinds.setdefault(room, []).append((number - used, held))
            left -= used
            held = (*held, length)
            rest = (capacity if room is None else room) - length
            (full if len(held) == slots else kinds.setdefault(rest, [])).append((used, held))
    # In the order of the items, those of each length.
    order = np.argsort(lengths, kind="stable")
    next_of = np.cumsum(counts) - counts
    found = []
    for number, held in [*full, *(kind for each in kinds.values() for kind in each)]:
        rows = np.full((number, slots), -1)
        for slot, length in enumerate(held):
            rows[:, slot] = order[next_of[length] : next_of[length] + number]
            next_of[length] += number
        found.append(rows)
    return np.concatenate([np.empty((0, slots), np.int64), *found])


def note(examples_per_row, spec, devices) -> str:
    """Says how many examples the packed rows of a step hold, and how many rows would hold those of the spec."""
    examples = spec.packed_rows * examples_per_row
    sentence = f"{spec.packed_rows} packed rows hold about {examples:.0f} examples a step"
    fitting = max(round(spec.batch_size / examples_per_row / devices), 1) * devices
    if fitting == spec.packed_rows:
        return f"{sentence}, batch_size {spec.batch_size}"
    return f"{sentence}: --config.data.packed_rows={fitting} comes nearest to batch_size {spec.batch_size}"


def unpack(batch) -> dict[str, np.ndarray]:
    """A packed batch's examples in rows of their own, as a batch that is not packed has them."""
    numbers, length = batch["attention_mask"], batch["input_ids"].shape[1]
    rows, slots = np.nonzero(batch["next_sentence_label"] >= 0)
    starts = batch["example_starts"][rows, slots]
    made = {name: np.zeros((len(rows), length), np.int32) for name in ("input_ids", "token_type_ids", "attention_mask")}
    made |= {name: np.zeros((len(rows), batch[name].shape[1]), np.int32) for name in ("masked_positions", "masked_ids")}
    for i, (row, slot, start) in enumerate(zip(rows, slots, starts, strict=True)):
        size = int((numbers[row] == slot + 1).sum())
        made["attention_mask"][i, :size] = 1
        for name in ("input_ids", "token_type_ids"):
            made[name][i, :size] = batch[name][row, start : start + size]
        places = batch["masked_positions"][row]
        mine = (batch["masked_ids"][row] > 0) & (places >= start) & (places < start + size)
        made["masked_positions"][i, : mine.sum()] = places[mine] - start
        made["masked_ids"][i, : mine.sum()] = batch["masked_ids"][row][mine]
    return made | {"next_sentence_label": batch["next_sentence_label"][rows, slots]}
