"""Rows sorted by length into batches of a few lengths that are compiled, for work that asks for no order."""

import numpy as np

from bert_tpu.data import token_rows

EMPTY = -1  # in place of a row's number, where the last batch has fewer


def batches(rows: token_rows.Rows, *, batch_size, seq_lens):
    """Iterator over (numbers of the rows [batch_size], their batch without labels) that meets each row once.

    Short rows first; a batch is as long as the least of `seq_lens`, which rise, that holds its longest row.
    """
    lengths = rows.lengths
    index = np.full(-(-len(lengths) // batch_size) * batch_size, EMPTY, np.int32)
    index[: len(lengths)] = np.argsort(lengths, kind="stable")
    for numbers in index.reshape(-1, batch_size):
        longest = lengths[numbers[numbers != EMPTY]].max()
        yield numbers, _take(rows, numbers, seq_lens[np.searchsorted(seq_lens, longest)])


def _take(rows, numbers, seq_len):
    there, number = numbers != EMPTY, np.maximum(numbers, 0)
    place = np.arange(seq_len)
    real = there[:, None] & (place < rows.lengths[number][:, None])
    token = np.where(real, rows.starts[number][:, None] + place, 0)
    return {
        "input_ids": np.where(real, rows.ids[token], 0).astype(np.int32),
        "token_type_ids": np.where(real, rows.types[token], 0).astype(np.int32),
        "attention_mask": real.astype(np.int32),
    }
