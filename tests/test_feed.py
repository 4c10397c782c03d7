"""A task's rows as batches: each once an epoch, as long as they must be, the same on any hosts."""

import numpy as np
import pytest

from bert_tpu import command, feed
from bert_tpu.tasks import task

LENS = (8, 16, 32)


def rows(number=53, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.choice([3, 7, 8, 9, 20, 32], number, p=[0.4, 0.25, 0.2, 0.1, 0.03, 0.02])
    starts = np.cumsum([0, *lengths]).astype(np.int64)
    ids = rng.integers(1, 1000, starts[-1]).astype(np.uint16)
    return task.Rows(ids, (ids % 2).astype(np.uint8), starts, np.arange(number, dtype=np.int32))


def fed(given, **changes):
    return feed.Feed(given, **{"seeds": (0, 5), "batch_size": 8, "num_steps": 21, "seq_lens": LENS} | changes)


def test_each_row_comes_once_an_epoch_in_an_order_of_each_seed_and_epoch():
    given = rows()
    seen = [batch["labels"] for _, batch in fed(given).batches(0)]
    orders = []
    for epoch in range(3):
        labels = np.concatenate(seen[7 * epoch : 7 * epoch + 7])  # [56, 2]
        for seed in range(2):
            real = labels[:53, seed]
            assert sorted(real) == list(range(53))
            orders.append(tuple(real))
    assert len(set(orders)) == 6


def test_a_batch_is_its_rows_and_no_longer_than_its_longest_asks_for():
    given = rows()
    for seq_len, batch in fed(given).batches(0):
        lengths = batch["attention_mask"].sum(-1)
        assert seq_len == min(n for n in LENS if n >= lengths.max())
        for number, length, ids in zip(
            batch["labels"].ravel(), lengths.ravel(), batch["input_ids"].reshape(-1, seq_len), strict=True
        ):
            if not length:
                continue  # filler of an epoch's last batch
            start, end = given.starts[number : number + 2]
            np.testing.assert_array_equal(ids, [*given.ids[start:end], *[0] * (seq_len - length)])


def test_a_batch_is_a_function_of_its_number_and_hosts_take_their_rows():
    whole = list(fed(rows()).batches(0))
    for first in (1, 13):
        for (n, batch), (m, other) in zip(whole[first:], fed(rows()).batches(first), strict=True):
            assert n == m
            assert all((batch[name] == other[name]).all() for name in batch)
    shares = [list(fed(rows()).batches(0, hosts=4, host=host)) for host in range(4)]
    for step, (n, batch) in enumerate(whole):
        assert {share[step][0] for share in shares} == {n}
        joined = np.concatenate([share[step][1]["input_ids"] for share in shares])
        np.testing.assert_array_equal(joined, batch["input_ids"])


def test_a_seed_s_batches_do_not_depend_on_the_others():
    both, alone = fed(rows(), seq_lens=(32,)), fed(rows(), seeds=(5,), seq_lens=(32,))
    for (_, batch), (_, other) in zip(both.batches(0), alone.batches(0), strict=True):
        np.testing.assert_array_equal(batch["input_ids"][:, 1:], other["input_ids"])


def test_steps_are_counted_by_length():
    made = fed(rows())
    lens = [n for n, _ in made.batches(0)]
    assert made.used_lens() == tuple(sorted(set(lens)))
    for step in (0, 1, 10, 21):
        assert [made.before(step, n) for n in LENS] == [lens[:step].count(n) for n in LENS]
    with pytest.raises(command.UserError, match="batch_size 8 does not divide over 3 devices x 2 parts"):
        made.check_division(3, 2)


def test_rows_to_be_predicted_come_each_once_short_ones_first():
    given = rows()
    met = list(feed.in_order(given, batch_size=8, seq_lens=LENS))
    numbers = np.concatenate([numbers for _, numbers, _ in met])
    assert sorted(numbers[numbers != feed.NOBODY]) == list(range(53))
    assert [n for n, _, _ in met] == sorted(n for n, _, _ in met)
    assert all("labels" not in batch for *_, batch in met)


def test_labels_of_tokens_and_numbers_keep_their_form():
    given = rows(20)
    tags = given._replace(labels=np.arange(given.starts[-1], dtype=np.int32))
    batch = feed.take(tags, np.array([4, feed.NOBODY]), 32)
    length = given.lengths[4]
    np.testing.assert_array_equal(batch["labels"][0, :length], np.arange(given.starts[4], given.starts[5]))
    assert (batch["labels"][0, length:] == task.IGNORED).all()
    assert (batch["labels"][1] == task.IGNORED).all()
    numbers = given._replace(labels=np.linspace(-1, 5, 20, dtype=np.float32))
    batch = feed.take(numbers, np.array([3]), 32)
    assert batch["labels"].dtype == np.int32
    assert batch["labels"].view(np.float32)[0] == numbers.labels[3]
