"""Rows come in the order of their lengths, each once, in batches of the compiled lengths."""

from helpers import token_row_cases
import numpy as np

from bert_tpu.data import length_buckets

LENS = (8, 16, 32)


def test_each_row_comes_once_short_rows_first_in_the_shortest_length_that_fits():
    rows, numbers_met, lens = token_row_cases.rows(), [], []
    for numbers, batch in length_buckets.batches(rows, batch_size=8, seq_lens=LENS):
        lengths = batch["attention_mask"].sum(-1)
        lens.append(batch["input_ids"].shape[1])
        assert lens[-1] == min(n for n in LENS if n >= lengths.max())
        for number, length, ids in zip(numbers, lengths, batch["input_ids"], strict=True):
            if number == length_buckets.EMPTY:
                assert length == 0
                continue
            start, end = rows.starts[number : number + 2]
            np.testing.assert_array_equal(ids, [*rows.ids[start:end], *[0] * (lens[-1] - length)])
            numbers_met.append(number)
    assert sorted(numbers_met) == list(range(53))
    assert lens == sorted(lens)
