"""Rows in the order of their lengths: each once, in batches of the lengths that are compiled."""

from helpers import token_row_cases
import numpy as np

from bert_tpu.data import length_buckets

LENS = (8, 16, 32)


def test_rows_come_each_once_short_ones_first_and_no_longer_than_they_must():
    given, met, lens = token_row_cases.rows(), [], []
    for numbers, batch in length_buckets.batches(given, batch_size=8, seq_lens=LENS):
        lengths = batch["attention_mask"].sum(-1)
        lens.append(batch["input_ids"].shape[1])
        assert lens[-1] == min(n for n in LENS if n >= lengths.max())
        for number, length, ids in zip(numbers, lengths, batch["input_ids"], strict=True):
            if number == length_buckets.EMPTY:
                assert length == 0
                continue
            start, end = given.starts[number : number + 2]
            np.testing.assert_array_equal(ids, [*given.ids[start:end], *[0] * (lens[-1] - length)])
            met.append(number)
    assert sorted(met) == list(range(53))
    assert lens == sorted(lens)
