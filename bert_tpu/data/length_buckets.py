"""Sorts rows by length into batches of a few compiled lengths, for work that does not depend on the order."""

from collections.abc import Iterator, Sequence

import numpy as np

from bert_tpu.data import token_rows

EMPTY = -1  # the row number in an empty place of the last batch


def batches(
    rows: token_rows.Rows, *, batch_size: int, seq_lens: Sequence[int]
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Yields (numbers of the rows, int32 [batch_size]; their batch without labels); each row comes once, short first.

    rows: the rows
    batch_size: rows of each batch; empty places have the number EMPTY
    seq_lens: ascending lengths; a batch has the least one that fits its longest row
    """
    lengths = rows.lengths
    index = np.full(-(-len(lengths) // batch_size) * batch_size, EMPTY, np.int32)
    index[: len(lengths)] = np.argsort(lengths, kind="stable")
    for numbers in index.reshape(-1, batch_size):
        longest = lengths[numbers[numbers != EMPTY]].max()
        yield numbers, _take(rows, numbers, seq_lens[np.searchsorted(seq_lens, longest)])


def _take(rows: token_rows.Rows, numbers: np.ndarray, seq_len: int) -> dict[str, np.ndarray]:
    is_used, number = numbers != EMPTY, np.maximum(numbers, 0)
    place = np.arange(seq_len)
    is_real = is_used[:, None] & (place < rows.lengths[number][:, None])
    token = np.where(is_real, rows.starts[number][:, None] + place, 0)
    return {
        "input_ids": np.where(is_real, rows.ids[token], 0).astype(np.int32),
        "token_type_ids": np.where(is_real, rows.types[token], 0).astype(np.int32),
        "attention_mask": is_real.astype(np.int32),
    }
