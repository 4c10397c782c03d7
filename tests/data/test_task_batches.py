"""A task's packed batches show each row once an epoch and unchanged, the same on any number of hosts."""

from helpers.token_row_cases import rows
import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.data import task_batches, token_rows

L, STEPS, MULTIPLE = 32, 21, 4


def make_batches(examples, **changes):
    fixed = {"seeds": (0, 5), "batch_size": 8, "num_steps": STEPS, "seq_len": L, "multiple": MULTIPLE}
    return task_batches.TaskBatches(examples, **fixed | changes)


def of_seed(batch, seed):
    return {name: value[:, seed] for name, value in batch.items()}


def examples(batch):
    """Yields (label, ids, types) of every example of a packed batch without seeds."""
    for row, labels in enumerate(batch["labels"]):
        for slot in np.flatnonzero(labels != token_rows.IGNORED):
            own = np.flatnonzero(batch["attention_mask"][row] == slot + 1)
            assert own[0] == batch["example_starts"][row, slot]
            assert (np.diff(own) == 1).all()
            yield labels[slot], batch["input_ids"][row, own], batch["token_type_ids"][row, own]


def test_each_example_comes_once_an_epoch_in_an_order_that_depends_on_seed_and_epoch():
    seen = [
        [label for label, *_ in examples(of_seed(batch, s))]
        for _, batch in make_batches(rows()).batches(0)
        for s in (0, 1)
    ]
    orders = set()
    for epoch in range(3):
        for seed in range(2):
            batches = seen[14 * epoch + seed : 14 * epoch + 14 : 2]
            assert [len(labels) for labels in batches] == [8] * 6 + [5]
            assert sorted(label for labels in batches for label in labels) == list(range(53))
            orders.add(tuple(frozenset(labels) for labels in batches))
    assert len(orders) == 6
    assert make_batches(rows()).mean_examples() == sum(map(len, seen)) / STEPS == 2 * 3 * 53 / STEPS


def test_orders_of_seeds_and_epochs_have_nothing_in_common():
    number, seeds = 20_000, (0, 1, 2, 255, 256, 65_536, 2**31 - 1)
    order = task_batches._order(number, seeds, 32, 2 * 625).swapaxes(0, 1).reshape(len(seeds) * 2, number)
    assert (np.sort(order, axis=1) == np.arange(number)).all()
    for orders in (order, np.argsort(order, axis=1)):
        apart = np.corrcoef(orders)[~np.eye(len(orders), dtype=bool)]
        assert np.abs(apart).max() < 5 / number**0.5  # the largest of 91
        assert np.std(apart) < 1.5 / number**0.5


def test_examples_are_unchanged_in_a_batch():
    task_rows, number = rows(), 0
    batches = make_batches(task_rows)
    for seq_len, batch in batches.batches(0):
        assert seq_len == L
        assert {name: value.shape for name, value in batch.items()} == batches.shapes()
        for label, ids, types in [*examples(of_seed(batch, 0)), *examples(of_seed(batch, 1))]:
            start, end = task_rows.starts[label : label + 2]
            np.testing.assert_array_equal(ids, task_rows.ids[start:end])
            np.testing.assert_array_equal(types, task_rows.types[start:end])
            number += len(ids)
        padding = batch["attention_mask"] == 0
        assert not batch["input_ids"][padding].any()
        number += padding.sum()
    assert number == STEPS * batches.rows(L) * L  # the batches have nothing else


def test_rows_are_shared_and_as_few_as_possible():
    task_rows = rows(2000)
    batches = make_batches(task_rows, seeds=(0,), num_steps=250)
    assert batches.packed_rows % MULTIPLE == 0
    used = [int((batch["attention_mask"] > 0).any(-1).sum()) for _, batch in batches.batches(0)]
    assert batches.packed_rows - MULTIPLE < max(used) <= batches.packed_rows
    assert np.mean(used) < 0.4 * 8  # 8 examples would fill 8 rows of their own


@hypothesis.given(strategies.lists(strategies.lists(strategies.integers(0, 32), min_size=6, max_size=6), min_size=1))
def test_first_fit_overfills_no_row_and_leaves_none_half_empty_before_another(lengths):
    lengths = np.array(lengths)
    rows_of = task_batches.first_fit(lengths, 32)
    for sizes, row in zip(lengths, rows_of, strict=True):
        np.testing.assert_array_equal(row == task_batches.EMPTY, sizes == 0)
        tokens = [sizes[row == r].sum() for r in range(6)]
        assert max(tokens) <= 32
        for r in range(1, 6):
            assert all(tokens[before] + sizes[row == r].min(initial=33) > 32 for before in range(r))


def test_a_batch_is_a_function_of_its_number_and_hosts_take_their_rows():
    whole = list(make_batches(rows()).batches(0))
    for first in (1, 13):
        for (n, batch), (m, other) in zip(whole[first:], make_batches(rows()).batches(first), strict=True):
            assert n == m
            assert all((batch[name] == other[name]).all() for name in batch)
    shares = [list(make_batches(rows()).batches(0, hosts=4, host=host)) for host in range(4)]
    for step, (_, batch) in enumerate(whole):
        for name, value in batch.items():
            np.testing.assert_array_equal(np.concatenate([share[step][1][name] for share in shares]), value)


def test_a_seed_s_batches_do_not_depend_on_the_others():
    for (_, both), (_, alone) in zip(
        make_batches(rows()).batches(0), make_batches(rows(), seeds=(5,)).batches(0), strict=True
    ):
        both, alone = (
            [(label, ids.tolist()) for label, ids, _ in examples(of_seed(batch, seed))]
            for batch, seed in ((both, 1), (alone, 0))
        )
        assert both == alone


def test_steps_and_rows_are_counted():
    batches = make_batches(rows())
    assert (batches.used_lens(), batches.batch_share(17), batches.rows(L)) == ((L,), 1.0, 2 * batches.packed_rows)
    assert batches.rows_before(17, L) == 17 * batches.rows(L)
    batches.check_division(2, {L: 2})
    with pytest.raises(
        command.UserError, match=f"packed rows {batches.packed_rows} does not divide over 5 devices x 2"
    ):
        batches.check_division(5, {L: 2})


@pytest.mark.parametrize("hosts", [1, 4])
def test_evaluation_shows_each_example_once_with_its_tokens(hosts):
    batches, task_rows = make_batches(rows()), rows(97, seed=1)
    numbers_met, tokens = [], []
    for shares in zip(*(batches.evaluation_batches(task_rows, hosts, host) for host in range(hosts)), strict=True):
        numbers, places, _ = shares[0]
        batch = {name: np.concatenate([share[name] for *_, share in shares]) for name in shares[0][2]}
        assert {name: value.shape for name, value in batch.items()} == batches.evaluation_shapes()
        np.testing.assert_array_equal(
            numbers != task_batches.EMPTY, batch["attention_mask"].max(1)[:, None] > np.arange(batches.slots)
        )
        numbers_met += numbers[numbers != task_batches.EMPTY].tolist()
        real = places != task_batches.EMPTY
        np.testing.assert_array_equal(batch["input_ids"][real], task_rows.ids[places[real]])
        tokens += places[real].tolist()
    assert sorted(numbers_met) == list(range(97))
    assert sorted(tokens) == list(range(task_rows.starts[-1]))


def test_labels_of_tokens_spans_and_numbers_keep_their_form():
    task_rows = rows(20)
    grid = np.array([[4, 7], [9, task_batches.EMPTY]])
    lengths = task_rows.lengths
    tags = task_rows._replace(labels=np.arange(task_rows.starts[-1], dtype=np.int32))
    laid = task_batches.lay_out(tags, grid, 64)["labels"]
    expected = [
        *range(task_rows.starts[4], task_rows.starts[5]),
        *range(task_rows.starts[7], task_rows.starts[8]),
    ]
    np.testing.assert_array_equal(laid[0], [*expected, *[token_rows.IGNORED] * (64 - len(expected))])
    assert (laid[1, lengths[9] :] == token_rows.IGNORED).all()
    numbers = task_rows._replace(labels=np.linspace(-1, 5, 20, dtype=np.float32))
    laid = task_batches.lay_out(numbers, grid, 64)["labels"]
    assert laid.dtype == np.int32
    np.testing.assert_array_equal(laid.view(np.float32)[[0, 0, 1], [0, 1, 0]], numbers.labels[[4, 7, 9]])
    spans = task_rows._replace(labels=np.tile(np.array([1, 2], np.int32), (20, 1)))
    laid = task_batches.lay_out(spans, grid, 64)["labels"]
    np.testing.assert_array_equal(laid[:, 0], [[1, 2], [1, 2]])
    np.testing.assert_array_equal(laid[0, 1], lengths[4] + [1, 2])
