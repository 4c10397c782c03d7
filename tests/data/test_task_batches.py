"""A task's rows as packed batches: each once an epoch, laid without loss, the same on any hosts."""

from helpers.token_row_cases import rows
import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.data import task_batches, token_rows

L, STEPS, MULTIPLE = 32, 21, 4


def fed(given, **changes):
    fixed = {"seeds": (0, 5), "batch_size": 8, "num_steps": STEPS, "seq_len": L, "multiple": MULTIPLE}
    return task_batches.TaskBatches(given, **fixed | changes)


def of_seed(batch, seed):
    return {name: value[:, seed] for name, value in batch.items()}


def examples(batch):
    """(label, ids, types) of every example of a packed batch without seeds, as it lies there."""
    for row, labels in enumerate(batch["labels"]):
        for slot in np.flatnonzero(labels != token_rows.IGNORED):
            own = np.flatnonzero(batch["attention_mask"][row] == slot + 1)
            assert own[0] == batch["example_starts"][row, slot]
            assert (np.diff(own) == 1).all()
            yield labels[slot], batch["input_ids"][row, own], batch["token_type_ids"][row, own]


def test_each_example_comes_once_an_epoch_in_an_order_of_each_seed_and_epoch():
    seen = [[label for label, *_ in examples(of_seed(batch, s))] for _, batch in fed(rows()).batches(0) for s in (0, 1)]
    orders = set()
    for epoch in range(3):
        for seed in range(2):
            batches = seen[14 * epoch + seed : 14 * epoch + 14 : 2]
            assert [len(labels) for labels in batches] == [8] * 6 + [5]
            assert sorted(label for labels in batches for label in labels) == list(range(53))
            orders.add(tuple(frozenset(labels) for labels in batches))
    assert len(orders) == 6


def test_orders_of_seeds_and_epochs_have_nothing_in_common():
    number, seeds = 20_000, (0, 1, 2, 255, 256, 65_536, 2**31 - 1)
    order = task_batches._order(number, seeds, 32, 2 * 625).swapaxes(0, 1).reshape(len(seeds) * 2, number)
    assert (np.sort(order, axis=1) == np.arange(number)).all()
    for orders in (order, np.argsort(order, axis=1)):
        apart = np.corrcoef(orders)[~np.eye(len(orders), dtype=bool)]
        assert np.abs(apart).max() < 5 / number**0.5  # the largest of 91
        assert np.std(apart) < 1.5 / number**0.5


def test_an_example_lies_in_a_batch_as_it_is():
    given, number = rows(), 0
    made = fed(given)
    for seq_len, batch in made.batches(0):
        assert seq_len == L
        assert {name: value.shape for name, value in batch.items()} == made.shapes()
        for label, ids, types in [*examples(of_seed(batch, 0)), *examples(of_seed(batch, 1))]:
            start, end = given.starts[label : label + 2]
            np.testing.assert_array_equal(ids, given.ids[start:end])
            np.testing.assert_array_equal(types, given.types[start:end])
            number += len(ids)
        padding = batch["attention_mask"] == 0
        assert not batch["input_ids"][padding].any()
        number += padding.sum()
    assert number == STEPS * made.rows(L) * L  # nothing else lies there


def test_rows_are_shared_and_no_more_than_they_must_be():
    given = rows(2000)
    made = fed(given, seeds=(0,), num_steps=250)
    assert made.packed_rows % MULTIPLE == 0
    used = [int((batch["attention_mask"] > 0).any(-1).sum()) for _, batch in made.batches(0)]
    assert made.packed_rows - MULTIPLE < max(used) <= made.packed_rows
    assert np.mean(used) < 0.4 * 8  # of the rows that as many examples would fill alone


@hypothesis.given(strategies.lists(strategies.lists(strategies.integers(0, 32), min_size=6, max_size=6), min_size=1))
def test_first_fit_overfills_no_row_and_leaves_none_half_empty_before_another(lengths):
    lengths = np.array(lengths)
    found = task_batches.first_fit(lengths, 32)
    for each, row in zip(lengths, found, strict=True):
        np.testing.assert_array_equal(row == task_batches.EMPTY, each == 0)
        held = [each[row == r].sum() for r in range(6)]
        assert max(held) <= 32
        for r in range(1, 6):
            assert all(held[before] + each[row == r].min(initial=33) > 32 for before in range(r))


def test_a_batch_is_a_function_of_its_number_and_hosts_take_their_rows():
    whole = list(fed(rows()).batches(0))
    for first in (1, 13):
        for (n, batch), (m, other) in zip(whole[first:], fed(rows()).batches(first), strict=True):
            assert n == m
            assert all((batch[name] == other[name]).all() for name in batch)
    shares = [list(fed(rows()).batches(0, hosts=4, host=host)) for host in range(4)]
    for step, (_, batch) in enumerate(whole):
        for name, value in batch.items():
            np.testing.assert_array_equal(np.concatenate([share[step][1][name] for share in shares]), value)


def test_a_seed_s_batches_do_not_depend_on_the_others():
    for (_, both), (_, alone) in zip(fed(rows()).batches(0), fed(rows(), seeds=(5,)).batches(0), strict=True):
        both, alone = (
            [(label, ids.tolist()) for label, ids, _ in examples(of_seed(batch, seed))]
            for batch, seed in ((both, 1), (alone, 0))
        )
        assert both == alone


def test_steps_and_rows_are_counted():
    made = fed(rows())
    assert (made.used_lens(), made.before(17, L), made.rows(L)) == ((L,), 17, 2 * made.packed_rows)
    made.check_division(2, 2)
    with pytest.raises(command.UserError, match=f"packed rows {made.packed_rows} does not divide over 5 devices x 2"):
        made.check_division(5, 2)


@pytest.mark.parametrize("hosts", [1, 4])
def test_examples_to_be_judged_come_each_once_with_their_tokens(hosts):
    made, given = fed(rows()), rows(97, seed=1)
    met, tokens = [], []
    for shares in zip(*(made.evaluation_batches(given, hosts, host) for host in range(hosts)), strict=True):
        numbers, places, _ = shares[0]
        batch = {name: np.concatenate([share[name] for *_, share in shares]) for name in shares[0][2]}
        assert {name: value.shape for name, value in batch.items()} == made.evaluation_shapes()
        np.testing.assert_array_equal(
            numbers != task_batches.EMPTY, batch["attention_mask"].max(1)[:, None] > np.arange(made.slots)
        )
        met += numbers[numbers != task_batches.EMPTY].tolist()
        real = places != task_batches.EMPTY
        np.testing.assert_array_equal(batch["input_ids"][real], given.ids[places[real]])
        tokens += places[real].tolist()
    assert sorted(met) == list(range(97))
    assert sorted(tokens) == list(range(given.starts[-1]))


def test_labels_of_tokens_spans_and_numbers_keep_their_form():
    given = rows(20)
    grid = np.array([[4, 7], [9, task_batches.EMPTY]])
    lengths = given.lengths
    tags = given._replace(labels=np.arange(given.starts[-1], dtype=np.int32))
    laid = task_batches.lay_out(tags, grid, 64)["labels"]
    wanted = [*range(given.starts[4], given.starts[5]), *range(given.starts[7], given.starts[8])]
    np.testing.assert_array_equal(laid[0], [*wanted, *[token_rows.IGNORED] * (64 - len(wanted))])
    assert (laid[1, lengths[9] :] == token_rows.IGNORED).all()
    numbers = given._replace(labels=np.linspace(-1, 5, 20, dtype=np.float32))
    laid = task_batches.lay_out(numbers, grid, 64)["labels"]
    assert laid.dtype == np.int32
    np.testing.assert_array_equal(laid.view(np.float32)[[0, 0, 1], [0, 1, 0]], numbers.labels[[4, 7, 9]])
    spans = given._replace(labels=np.tile(np.array([1, 2], np.int32), (20, 1)))
    laid = task_batches.lay_out(spans, grid, 64)["labels"]
    np.testing.assert_array_equal(laid[:, 0], [[1, 2], [1, 2]])
    np.testing.assert_array_equal(laid[0, 1], lengths[4] + [1, 2])
