"""A few random inputs for every target of `make fuzz`, which tries thousands."""

import os
import subprocess
import sys

from conftest import ROOT
from fuzz import target, targets
import pytest

TARGETS = {each.name: each for each in targets.all_targets()}
COMMANDS = ("command lines", "demos")  # whole commands, which must not run in the process of other tests
FEW = 25
LEAST = 8


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - set(COMMANDS)))
def test_no_input_ends_in_a_traceback_or_is_read_as_another(name):
    few = max(LEAST, round(FEW * min(TARGETS[name].share, 1)))  # the share of a slow target is small
    outcome = target.run(TARGETS[name], few, seed=0)
    assert not outcome.failures, "\n".join(trace for _, trace in outcome.failures.values())
    assert outcome.counts["accepted"] + outcome.counts["refused"] >= few


def test_no_command_line_ends_in_a_traceback():
    words = ["-m", "fuzz", "--inputs", str(FEW // 2), "--seed", "0", "--only", *COMMANDS]
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"}
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(name in done.stdout for name in COMMANDS)


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
