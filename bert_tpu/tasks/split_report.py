"""Describes what was read for a task, before it trains: classes and their counts, cut rows, rows without content."""

from collections.abc import Iterator

import numpy as np

from bert_tpu.core import numerals
from bert_tpu.data import token_rows
from bert_tpu.tasks.task import Task
from bert_tpu.tokenizer import vocab

CLASSES = 20  # listed one by one; of more classes, the last line is about all rarer ones
NAME = 40  # characters of a class name that are shown
LONGEST = 1 << 16  # tokens of a row
BLOCK = 1 << 16  # rows whose tokens are hashed at a time
ALIKE = 8  # rows with one label that are hardly chance
# The pooler's outputs are within -1 and 1, so that a step of Adam changes a number by at most about the learning rate
# times 1 + hidden_size: 0.02 at 3e-5 and 768.
FAR = 20
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
        lines += _label_doubts(task, split)
    hashes = {split: _hashes(rows, len(vocabulary.pieces)) for split, rows in task.splits.items()}
    return "\n".join([*lines, *_contradictions(task, hashes["train"]), *_leaks(task, hashes)])


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
    if still and still == np.count_nonzero(rows.lost):
        return [f"{sentence}; the model's {positions} positions cut as many, so divide these rows"]
    return [f"{sentence}; --config.max_length={longer} cuts {f'{still:,} of them' if still else 'none'}"]


def _contents(split: str, rows: token_rows.Rows, special: vocab.Ids) -> Iterator[str]:
    """Yields sentences about empty texts and unknown words."""
    starts = rows.starts[:-1]
    second = np.add.reduceat(rows.types, starts, dtype=np.int64)  # [SEP] included
    has_pairs = bool(second.any())
    empty = (rows.lengths - second <= 2) | (has_pairs & (second <= 1))
    if empty.any():
        yield (
            f"warning: {split}: {numerals.count(int(empty.sum()), 'row')} with a text without any token, row "
            f"{1 + int(empty.argmax()):,} first"
        )
    unknown = np.add.reduceat(rows.ids == special.unk, starts, dtype=np.int64)
    tokens = rows.lengths - 2 - has_pairs
    only = (unknown == tokens) & (tokens > 0)
    share = unknown.sum() / max(tokens.sum(), 1)
    if share >= UNKNOWN or only.any():
        question = "; does the model's tokenizer know this language and script?" if share >= UNKNOWN else ""
        yield (
            f"warning: {split}: {share:.1%} of the tokens are [UNK]"
            + (f", and all tokens of {numerals.count(int(only.sum()), 'row')}" if only.any() else "")
            + question
        )


def _label_doubts(task: Task, split: str) -> Iterator[str]:
    """Yields warnings about labels of a scored split that are all one, and about numbers that are hard to learn."""
    if task.head not in ("classify", "regress"):
        return
    labels, train = task.splits[split].labels, task.splits["train"].labels if "train" in task.splits else None
    if split in task.eval_splits and len(labels) >= ALIKE and (labels == labels[0]).all():
        is_known = task.head == "classify" and labels[0] < len(task.labels)
        name = repr(task.labels[labels[0]]) if is_known else f"{labels[0]:g}"
        yield (
            f"warning: {split}: all {len(labels):,} rows have the label {name}; if that stands for no label, its "
            "scores mean nothing"
        )
    elif task.head == "regress" and split == "train" and np.abs(labels).max() > FAR:
        yield (
            f"warning: train: the numbers reach {np.abs(labels).max():.4g}, but the model begins near 0 and each step "
            "changes its numbers little; divide all by one number so that they are about 0 to 5"
        )
    elif task.head == "regress" and split in task.eval_splits and train is not None:
        low, high = float(train.min()), float(train.max())
        outside = (labels < low - (high - low)) | (labels > high + (high - low))
        if outside.mean() > 0.5:
            yield (
                f"warning: {split}: {outside.sum():,} of {len(labels):,} numbers are far outside those of train, "
                f"{low:.4g} to {high:.4g}; are they in the same unit?"
            )


def _contradictions(task: Task, hashes: np.ndarray) -> Iterator[str]:
    """Yields a sentence if rows of train with the same tokens have different classes."""
    if task.head != "classify":
        return
    labels = task.splits["train"].labels
    order = np.lexsort((labels, hashes))
    hashes, labels = hashes[order], labels[order]
    first = np.flatnonzero(np.append(True, hashes[1:] != hashes[:-1]))  # of each group of equal rows
    sizes = np.diff(np.append(first, len(hashes)))
    number = sizes[labels[first] != labels[first + sizes - 1]].sum()
    if number:
        yield f"warning: train: {number:,} of {len(labels):,} rows have the tokens of a row with another label"


def _leaks(task: Task, hashes: dict[str, np.ndarray]) -> Iterator[str]:
    """Yields a sentence for each split that has rows of train."""
    for split in task.splits:
        number = np.isin(hashes[split], hashes["train"]).sum()
        if split != "train" and number:
            yield (
                f"warning: {split}: {number:,} of {len(hashes[split]):,} rows are in train too, token by token; scores "
                "on them reward memory"
            )


def _hashes(rows: token_rows.Rows, vocabulary_size: int) -> np.ndarray:
    """Returns a number for each row, uint64 [N], that is the same for rows with the same tokens.

    Rows that were cut also differ by the number of lost tokens. The number is a sum of random products, modulo 2 ** 64.
    """
    rng = np.random.default_rng(0)
    of_ids = rng.integers(2**64, size=vocabulary_size, dtype=np.uint64)
    of_places = rng.integers(2**64, size=1 + LONGEST, dtype=np.uint64) | np.uint64(1)
    hashes = np.zeros(len(rows.lengths), np.uint64)
    for block in range(0, len(hashes), BLOCK):
        starts = rows.starts[block : block + BLOCK + 1]
        places = np.arange(starts[-1] - starts[0]) - np.repeat(starts[:-1] - starts[0], np.diff(starts))
        products = of_ids[rows.ids[starts[0] : starts[-1]]] * of_places[places]
        hashes[block : block + BLOCK] = np.add.reduceat(products, starts[:-1] - starts[0])
    return hashes if rows.lost is None else hashes + rows.lost.astype(np.uint64) * of_places[LONGEST]
