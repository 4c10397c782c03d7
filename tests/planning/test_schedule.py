"""The waits for the links, in schedules whose waits are known."""

import pytest

from bert_tpu.planning import cost, schedule

PRICE_S = 10.0
CLOCK_HZ = 1.0


def waited_s(*spans, runs=1):
    """The seconds waited for collectives of 10 s each. spans: (cycles before the begin, cycles before the end)"""
    moments = sorted({(cycles, i, is_end) for i, span in enumerate(spans) for is_end, cycles in enumerate(span)})
    position = {(i, is_end): place for place, (_, i, is_end) in enumerate(moments)}
    collectives = [
        cost.Collective("all-gather", 1, 4, runs, *(cost.Moment(runs * span[k], position[i, k]) for k in (0, 1)))
        for i, span in enumerate(spans)
    ]
    return schedule.exposed_s(collectives, lambda collective: PRICE_S, CLOCK_HZ)


def test_computation_between_the_ends_hides_a_collective():
    assert waited_s((0, 25)) == 0
    assert waited_s((3, 7)) == 6  # 4 s of computation hide 4 of 10 s


def test_a_synchronous_collective_is_waited_for_in_full():
    assert waited_s((5, 5)) == 10
    assert waited_s((5, 5), (90, 90)) == 20


def test_two_collectives_share_the_links():
    assert waited_s((0, 15), (0, 15)) == 5  # 20 s on the links, 15 of computation
    assert waited_s((0, 15), (5, 40)) == 0


def test_a_wait_for_one_collective_hides_another():
    # The second begins at 2 s and is done at 20. The device waits from 4 to 10 for the first, and so has its own 4
    # and 6 s more behind it when it comes to the end of the second.
    assert waited_s((0, 4), (2, 14)) == 6


def test_a_loop_waits_in_each_trip():
    assert waited_s((3, 7), runs=5) == 5 * 6


def test_nothing_is_exchanged_on_one_device():
    assert waited_s() == pytest.approx(0)
