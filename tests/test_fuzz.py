"""A few random inputs for every target of `make fuzz`, which tries thousands."""

from fuzz import target, targets
import pytest

TARGETS = {each.name: each for each in targets.all_targets()}
FEW = 25


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_ends_in_a_traceback_or_is_read_as_another(name):
    outcome = target.run(TARGETS[name], FEW, seed=0)
    assert not outcome.failures, "\n".join(trace for _, trace in outcome.failures.values())
    assert outcome.counts["accepted"] + outcome.counts["refused"] >= FEW


def wrong(value):
    """Accepts everything but reproduces only small numbers, and knows no fractions."""
    if value == int(value):
        assert value < 10
    else:
        raise ValueError(value)


def test_failures_are_counted_by_their_kind_with_the_shortest_input():
    some = target.Target("wrong", target.hypothesis.strategies.sampled_from((1, 2.5, 10, 20000)), wrong)
    outcome = target.run(some, 40, seed=0)
    assert outcome.counts.keys() == {"accepted", "traceback", "not reproduced"}
    shown = {key.partition(":")[0]: value for key, (value, _) in outcome.failures.items()}
    assert shown == {"not reproduced": "10", "traceback": "2.5"}
