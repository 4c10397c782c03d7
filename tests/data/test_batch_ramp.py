"""A ramp of the batch size: each row still comes once an epoch, and the schedule counts examples."""

import collections
import re

from helpers import placed_rows
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf

from bert_tpu.core import batch_ramp, command, hashing
from bert_tpu.data import batch_spec, corpus_batches, host_share, packing, sampler

STEPS, RAMP = 1_000_000, batch_ramp.Ramp((256, 512), 60_000)
LARGE = placed_rows.SPEC._replace(batch_size=1024, num_steps=STEPS, ramp=RAMP)
SMALL = placed_rows.SPEC._replace(
    num_steps=30, ramp=batch_ramp.Ramp((8, 16), 14), schedule="mixed", long_every=3, packed_rows=16, packed_examples=4
)
GROUPS = 64


def rows_of(step, ramp=RAMP, batch_size=1024):
    """Returns the rows of a step as the config's comment says it."""
    parts = len(ramp.rows)
    ends = [ramp.steps * (part + 1) // parts for part in range(parts)]
    return next((rows for end, rows in zip(ends, ramp.rows, strict=True) if step < end), batch_size)


def shown(spec, first, last, size, since=0):
    """Returns epoch -> entries of group 0 that the steps first .. last - 1 of 128 tokens show, in order.

    size: rows of an epoch of a group. since: the step at which the first epoch begins.
    """
    share = host_share.HostShare(range(1024), GROUPS, 0, None, None, None, (), None)
    seen = collections.defaultdict(list)
    for stage in spec.stages(first):
        order = sampler.EpochOrder(share, stage, 128, np.full(GROUPS, size), since=since)
        entries, rows = tf.function(order.entries), stage.rows(128) // GROUPS
        assert rows == rows_of(stage.steps.start) // GROUPS
        for n in stage.numbers(128)[: max(0, spec.steps_before(last, 128) - stage.numbers(128).start)]:
            entry, epoch, _ = (column.numpy()[:rows] for column in entries(tf.constant(n, tf.int64)))
            for e, i in zip(epoch.tolist(), entry.tolist(), strict=True):
                seen[e].append(i)
    return seen


@pytest.mark.parametrize("schedule", ["phased", "mixed"])
@pytest.mark.parametrize("boundary", [30_000, 60_000])
def test_each_row_comes_once_an_epoch_over_the_boundary_of_two_stages(schedule, boundary):
    spec, size, around = batch_spec.check(LARGE._replace(schedule=schedule)), 1_501, 400
    seen = shown(spec, boundary - around, boundary + around, size)
    first, *whole, last = seen
    # As many rows were shown before as the steps before have for this group.
    before = sum(rows_of(step) for step in range(boundary - around) if spec.seq_len(step) == 128) // GROUPS
    assert first == before // size
    assert len(seen[first]) == size - before % size
    assert len(whole) >= 1
    assert all(sorted(seen[epoch]) == list(range(size)) for epoch in whole)
    assert len(set(seen[last])) == len(seen[last])


def test_the_first_epoch_of_pairs_begins_with_them_in_any_stage():
    spec = batch_spec.check(LARGE._replace(nsp_share=0.99226))
    first = spec.first_nsp_step
    before, last, whole = (sum(rows_of(step) for step in range(end)) for end in (first, first - 1, STEPS))
    assert last / whole < 1 - spec.nsp_share <= before / whole  # the first such step
    assert 29_500 < first < 30_000  # the end of the first stage
    seen = shown(spec, first, 30_300, 1_501, since=first)
    assert all(sorted(seen[epoch]) == list(range(1_501)) for epoch in (0, 1))


def test_counts_of_rows_and_examples_are_those_of_the_steps():
    spec = batch_spec.check(SMALL)
    rows = np.array([rows_of(step, SMALL.ramp, SMALL.batch_size) for step in range(30)])
    lens = np.array([spec.seq_len(step) for step in range(30)])
    for step in range(31):
        assert spec.rows_before(step, 128) == rows[:step][lens[:step] == 128].sum()
        assert spec.rows_before(step, 512) == rows[:step][lens[:step] == 512].sum() // 2  # packed_rows / batch_size
        assert spec.batch_sizes.batches_before(step) == rows[:step].sum() / SMALL.batch_size
        assert spec.progress(step) == pytest.approx(rows[:step].sum() / rows.sum(), rel=1e-12)
    assert [spec.batch_share(step) for step in range(30)] == (rows / SMALL.batch_size).tolist()
    assert spec.sizes() == ((128, 8), (128, 16), (128, 32), (512, 4), (512, 8), (512, 16))
    assert spec.sizes(7) == ((128, 16), (128, 32), (512, 8), (512, 16))
    assert spec.sizes(14) == spec.without_ramp().sizes() == ((128, 32), (512, 16))
    steps = np.arange(0, STEPS, 7_919)
    each = np.array([LARGE.progress(int(step)) for step in steps])
    assert LARGE.progress(STEPS) == 1
    np.testing.assert_allclose(LARGE.progress(tf.constant(steps, tf.float64)), each, rtol=1e-12)
    np.testing.assert_allclose(LARGE.progress(jnp.asarray(steps, jnp.int32)), each, rtol=1e-6)


def joined(lock, spec, hosts, first, last):
    """Returns (sequence length, SHA-256) of the global batches of the steps first .. last - 1, as `hosts` hosts."""
    streams = []
    for index in range(hosts):
        share = host_share.load(lock, "train", **spec.row_counts(), process_index=index, process_count=hosts)
        streams.append(corpus_batches.train(share, spec, first))
    batches = [parts for parts, _ in zip(zip(*streams, strict=True), range(first, last), strict=False)]
    return [
        (parts[0][0], hashing.batch_sha256({k: np.concatenate([b[k] for _, b in parts]) for k in parts[0][1]}))
        for parts in batches
    ]


def test_hosts_and_resumed_runs_have_the_same_batches(placed_lock):
    """Step 7 begins a stage, and steps 5 and 8 have packed rows."""
    whole = joined(placed_lock, SMALL, 1, 5, 9)
    assert joined(placed_lock, SMALL, 4, 7, 9) == whole[2:]


def test_the_evaluation_set_is_that_of_a_run_without_a_ramp(placed_lock):
    share = host_share.load(placed_lock, "heldout", **SMALL.without_ramp().row_counts())
    for (n, batch), (m, plain) in zip(
        corpus_batches.heldout(share, SMALL, 1),
        corpus_batches.heldout(share, SMALL.without_ramp(), 1),
        strict=True,
    ):
        assert n == m
        assert {name: array.shape for name, array in batch.items()} == SMALL.without_ramp().shapes(n)
        assert hashing.batch_sha256(batch) == hashing.batch_sha256(plain)


@pytest.mark.parametrize(
    ("ramp", "sentence"),
    [
        (((), 5), "set ramp.rows and one of"),
        (((8,), 0), "set ramp.rows and one of"),
        (((16, 8), 5), "rising whole numbers from 1 to below batch_size 32"),
        (((8, 8), 5), "rising whole numbers"),
        (((8, 32), 5), "rising whole numbers"),
        (((0, 8), 5), "rising whole numbers"),
        (((8.0,), 5), "rising whole numbers"),
        ((("8",), 5), "rising whole numbers"),
        (((8, 16), 1), "it has a whole number from 2, one for each of ramp.rows, to below num_steps 30"),
        (((8, 16), 30), "to below num_steps 30"),
        (((8,), 5.0), "a whole number from 1"),
        (((7,), 5), "or multiples of 2 as ramp.rows"),
    ],
)
def test_a_wrong_ramp_is_refused_in_one_sentence(ramp, sentence):
    with pytest.raises(command.UserError, match=sentence) as error:
        batch_spec.check(SMALL._replace(ramp=batch_ramp.Ramp(*ramp)))
    assert "\n" not in str(error.value)


def test_each_size_divides_over_devices_parts_and_hosts(placed_lock):
    SMALL.check_division(4, {128: 2, 512: 1})
    with pytest.raises(command.UserError, match=r"ramp.rows 8 does not divide over 4 devices x 3 parts .*; try 12"):
        SMALL._replace(batch_size=96, packed_rows=48).check_division(4, {128: 3, 512: 1})
    with pytest.raises(
        command.UserError, match=r"of which ramp.rows 8 makes 4, does not divide over 8 devices x 1 parts"
    ):
        SMALL.check_division(8, {128: 1, 512: 1})
    SMALL.check_division(8, {128: 1, 512: 1}, first_step=SMALL.ramp.steps)  # such as a start on other devices
    SMALL.without_ramp()._replace(batch_size=8, packed_rows=4).check_division(8, {128: 1})  # a plan of one length
    with pytest.raises(
        command.UserError, match=r"8 hosts cannot share the rows of .* and the ramp's rows 8, 16, 32, 4, 8, 16: set"
    ):
        host_share.load(placed_lock, "train", **SMALL.row_counts(), process_count=8)


@pytest.mark.parametrize(("rows", "ramp", "devices"), [(128, 64, 64), (32, 16, 8), (100, 128, 16), (7, 200, 1)])
def test_the_advice_about_packed_rows_in_a_ramp_can_be_followed(rows, ramp, devices):
    def checked(rows, ramp):
        spec = SMALL._replace(batch_size=256, packed_rows=rows, ramp=batch_ramp.Ramp((ramp,), 5))
        batch_spec.check(spec).check_division(devices, {512: 1})

    with pytest.raises(command.UserError) as fault:
        checked(rows, ramp)
    if multiple := re.search(r"multiples of (\d+) as ramp.rows", str(fault.value)):
        checked(rows, int(multiple[1]))
    checked(int(re.search(r"try data.packed_rows=(\d+)", str(fault.value))[1]), ramp)
    spec = SMALL._replace(batch_size=256, packed_rows=rows, ramp=batch_ramp.Ramp((ramp,), 5))
    packed_rows = int(re.search(r"packed_rows=(\d+) comes", packing.note(3.0, spec, devices))[1])
    checked(packed_rows, ramp)


def test_the_ramp_may_be_a_share_of_the_steps():
    for num_steps, steps in ((1_000_000, 60_000), (110, 7)):
        cfg = {"num_steps": num_steps, "ramp": {"rows": 8, "steps": 0, "share": 0.06}}
        assert batch_ramp.read(cfg) == ((8,), steps)
    with pytest.raises(command.UserError, match=r"ramp\.steps is 5 and config\.ramp\.share 0\.5: set one of them to 0"):
        batch_ramp.make((8,), 5, 0.5, num_steps=10)
    with pytest.raises(command.UserError, match=r"ramp\.share 0\.04 of 12 steps rounds to 0: give a larger share"):
        batch_ramp.make((8,), 0, 0.04, num_steps=12)
    with pytest.raises(command.UserError, match=r"ramp\.share is 1\.0: give a share of the steps, from 0 to below 1"):
        batch_ramp.make((8,), 0, 1.0, num_steps=10)


def test_the_batch_sizes_in_words():
    cfg = {"batch_size": 1024, "ramp": {"rows": [256, 512], "steps": 60_000}}
    assert batch_ramp.describe(cfg) == "256, 512 (the first 60,000 steps) and 1,024"
    assert batch_ramp.describe({"batch_size": 1024}) == "1,024"  # of an older release
