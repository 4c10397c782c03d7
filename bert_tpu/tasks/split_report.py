"""Describes what was read for a task, before it trains: classes and their counts, cut rows, rows without content."""

from collections.abc import Iterator

import numpy as np

from bert_tpu.data import token_rows
from bert_tpu.tasks.task import Task
from bert_tpu.tokenizer import vocab

CLASSES = 20  # listed one by one; of more classes, the last line is about all rarer ones
NAME = 40  # characters of a class name that are shown
CONTRADICTED = -2  # in place of a label
UNKNOWN = 0.05  # share of [UNK] tokens from which on the tokenizer probably does not fit the texts


def text(task: Task, vocabulary: vocab.Vocab, *, max_length: int, positions: int) -> str:
    """Returns lines for the user: the reader's own notes, a table of the splits, and what may be wrong in them.

    vocabulary: the pieces of the rows
    max_length: tokens of the longest row
    positions: tokens of the longest row that the model can have
    """
    lines = [*task.notes, *_table(task)]
    for split, rows in task.splits.items():
        lines += _cut(split, rows, max_length, positions)
        lines += _contents(split, rows, vocab.ids(vocabulary))
    return "\n".join([*lines, *_contradictions(task), *_leaks(task)])


def _table(task: Task) -> list[str]:
    """Returns the lines of a table with a column for each split, in which numbers are right-aligned."""
    listed = _listed(task)
    columns = {split: _column(task, split, listed) for split in task.splits}
    keys = list(dict.fromkeys(["rows", *listed, *(key for column in columns.values() for key in column)]))
    names = [_short(task.labels[key]) if isinstance(key, int) else key for key in keys]
    cells = [["", *columns]]
    cells += [
        [name, *(column.get(key, "") for column in columns.values())] for key, name in zip(keys, names, strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        f"{first:<{widths[0]}}"
        + "".join(f"  {cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)).rstrip()
        for first, *others in cells
    ]


def _listed(task: Task) -> list[int]:
    """Returns the numbers of the classes that the table lists: all, or the most frequent ones of train, ascending."""
    if task.head not in ("classify", "tag"):
        return []
    counts = _counts(task.splits["train"].labels, len(task.labels))[:-1]
    return sorted(np.argsort(-counts, kind="stable")[:CLASSES].tolist())


def _column(task: Task, split: str, listed: list[int]) -> dict[int | str, str]:
    """Returns the cells of a split. Their keys are the numbers of the listed classes, and names of other lines."""
    rows = task.splits[split]
    cells: dict[int | str, str] = {"rows": f"{len(rows.lengths):,}"}
    if split != "train" and split not in task.eval_splits:
        return cells | {"(no label)": "all"}
    if task.head == "regress":
        labels = rows.labels.astype(np.float64)
        values = {"lowest": labels.min(), "mean": labels.mean(), "highest": labels.max()}
        return cells | {name: f"{value:.4g}" for name, value in values.items()}
    if task.head == "span":
        return cells
    counts = _counts(rows.labels, len(task.labels))
    cells |= {i: _share(counts[i], counts.sum()) for i in listed}
    others = np.delete(counts[:-1], listed)
    if len(others):
        cells[f"({len(others):,} other classes)"] = _share(others.sum(), counts.sum())
    return cells | ({"(not in train)": _share(counts[-1], counts.sum())} if counts[-1] else {})


def _counts(labels: np.ndarray, number: int) -> np.ndarray:
    """Returns the count of each class, and at the end that of the labels that train does not have."""
    counts = np.bincount(labels[labels != token_rows.IGNORED], minlength=number)
    return np.append(counts[:number], counts[number:].sum())


def _short(name: str) -> str:
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"


def _share(part: int, whole: int) -> str:
    return f"{part:,} {part / max(whole, 1):6.1%}"


def _cut(split: str, rows: token_rows.Rows, max_length: int, positions: int) -> list[str]:
    """Returns a sentence about the rows that lost tokens, and the max_length that helps."""
    if rows.lost is None or not rows.lost.any():
        return []
    full = rows.lengths + rows.lost
    sentence = (
        f"{split}: {np.count_nonzero(rows.lost):,} of {len(full):,} rows are cut to max_length {max_length}, and "
        f"{rows.lost.sum() / full.sum():.1%} of the tokens are never seen"
    )
    if max_length >= positions:
        return [f"{sentence}; the model has no more positions"]
    longer = min(positions, int(full.max()))
    still = np.count_nonzero(full > longer)
    return [f"{sentence}; --config.max_length={longer} cuts {f'{still:,} rows' if still else 'none'}"]


def _contents(split: str, rows: token_rows.Rows, special: vocab.Ids) -> Iterator[str]:
    """Yields sentences about empty texts and unknown words."""
    starts = rows.starts[:-1]
    second = np.add.reduceat(rows.types, starts, dtype=np.int64)  # [SEP] included
    has_pairs = bool(second.any())
    empty = (rows.lengths - second <= 2) | (has_pairs & (second <= 1))
    if empty.any():
        yield (
            f"warning: {split}: {np.count_nonzero(empty):,} rows have a text without any token, row "
            f"{1 + int(empty.argmax()):,} first"
        )
    unknown = np.add.reduceat(rows.ids == special.unk, starts, dtype=np.int64)
    tokens = rows.lengths - 2 - has_pairs
    only = (unknown == tokens) & (tokens > 0)
    share = unknown.sum() / max(tokens.sum(), 1)
    if share >= UNKNOWN or only.any():
        question = "; does the model's tokenizer know this language and script?" if share >= UNKNOWN else ""
        yield (
            f"warning: {split}: {share:.1%} of the tokens are [UNK], and {np.count_nonzero(only):,} rows have no other"
            + question
        )


def _contradictions(task: Task) -> Iterator[str]:
    """Yields a sentence if rows of train with the same tokens have different classes."""
    if task.head != "classify":
        return
    rows = task.splits["train"]
    labels: dict[bytes, int] = {}
    for key, label in zip(_keys(rows), rows.labels.tolist(), strict=True):
        labels[key] = label if labels.setdefault(key, label) == label else CONTRADICTED
    number = sum(labels[key] == CONTRADICTED for key in _keys(rows))
    if number:
        yield f"warning: train: {number:,} of {len(rows.lengths):,} rows have the tokens of a row with another label"


def _leaks(task: Task) -> Iterator[str]:
    """Yields a sentence for each split that has rows of train."""
    rows_of = {split: set(_keys(rows)) for split, rows in task.splits.items() if split != "train"}
    common: dict[str, set[bytes]] = {split: set() for split in rows_of}
    for key in _keys(task.splits["train"]):
        for split, keys in rows_of.items():
            if key in keys:
                common[split].add(key)
    for split, keys in common.items():
        if keys:
            number = sum(key in keys for key in _keys(task.splits[split]))
            yield (
                f"warning: {split}: {number:,} of {len(task.splits[split].lengths):,} rows are in train too, token by "
                "token; scores on them reward memory"
            )


def _keys(rows: token_rows.Rows) -> Iterator[bytes]:
    """Yields what tells apart rows of different tokens. Rows that were cut also differ by the number of lost tokens."""
    raw, size = rows.ids.tobytes(), rows.ids.itemsize
    lost = np.zeros_like(rows.lengths) if rows.lost is None else rows.lost
    for start, stop, number in zip(rows.starts[:-1].tolist(), rows.starts[1:].tolist(), lost.tolist(), strict=True):
        yield raw[size * start : size * stop] + (number.to_bytes(4) if number else b"")
