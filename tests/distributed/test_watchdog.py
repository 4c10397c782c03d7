"""The watchdog: it reports where a run makes no progress, and ends it. It leaves a run that makes progress alone."""

import signal
import subprocess
import sys
import time

from conftest import ROOT
import pytest

from bert_tpu.core import command
from bert_tpu.distributed import hosts, watchdog


def position(step, phase="step", silent_s=0.3):
    return {"step": step, "phase": phase, "silent_s": silent_s}


@pytest.mark.parametrize(
    ("positions", "sentence"),
    [
        ([position(7, "input")], "at step 7 (input)"),
        (
            [position(8), position(7, "input")],
            "host 1 lags: host 0 (this one) is at step 8 (step), host 1 is at step 7 (in",
        ),
        ([position(8), position(8, "input")], "host 1 lags: "),
        ([position(8), position(8), position(9, silent_s=7)], "host 2 lags, and has been silent for 7 s: "),
        ([position(8), position(8)], "no host lags: host 0 (this one) is at step 8 (step), host 1 is at step 8 (step)"),
    ],
)
def test_the_host_that_lags_is_named(positions, sentence):
    assert watchdog.describe_positions(positions, 0).startswith(sentence)


def test_limits_out_of_order_are_refused():
    with pytest.raises(command.UserError, match=r"watchdog.exit_s 5 is less than watchdog.stacks_s 10"):
        watchdog.Watchdog(silent_s=30, stacks_s=10, exit_s=5, group=hosts.Hosts())


def test_an_evaluation_may_take_as_long_as_its_batches_need(monkeypatch):
    ended = []
    monkeypatch.setattr(hosts.Hosts, "leave", lambda _, sentence: ended.append(sentence))
    with watchdog.Watchdog(silent_s=30, stacks_s=0, exit_s=0.2, group=hosts.Hosts()) as dog:
        dog.enter_phase(1, "evaluation")
        slow = dog.watched(lambda x: time.sleep(x) or x)
        assert [slow(0.4) for _ in range(5)] == [0.4] * 5  # 2 s, of which a phase without progress may take 1
        assert not ended
        time.sleep(1.6)
    assert ended
    assert ended[0].endswith("at step 1 (evaluation)")


NO_PROGRESS = """
import sys, time
from bert_tpu.distributed import hosts, watchdog
def reads_a_bucket_that_does_not_answer():
    time.sleep(60)
with watchdog.Watchdog(silent_s=30, stacks_s=float(sys.argv[1]), exit_s=float(sys.argv[2]), group=hosts.Hosts()) as dog:
    for step in range(1, 8):
        dog.enter_phase(step, "step")
        time.sleep(0.3)
    dog.enter_phase(8, sys.argv[3])
    reads_a_bucket_that_does_not_answer()
"""


def test_a_run_without_progress_prints_its_stacks_and_ends():
    begun_s = time.monotonic()
    command = [sys.executable, "-c", NO_PROGRESS, "1", "3", "input"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    first, *stacks, last = done.stderr.splitlines()
    assert first == "warning: nothing was finished for 1 s: at step 8 (input); every thread of this host:"
    assert any("reads_a_bucket_that_does_not_answer" in line for line in stacks)
    assert last == "error: nothing was finished for 3 s: at step 8 (input)"
    assert time.monotonic() - begun_s < 40


STOPPED = """
import os, signal, time
from bert_tpu.distributed import hosts, watchdog
with watchdog.Watchdog(silent_s=30, stacks_s=0, exit_s=2, group=hosts.Hosts()) as dog:
    dog.enter_phase(1, "step")
    print("stops", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1)
"""


def test_a_run_that_was_stopped_goes_on_when_it_is_continued():
    """Ctrl-Z and, after longer than the limit, fg."""
    with subprocess.Popen([sys.executable, "-c", STOPPED], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "stops\n"
        time.sleep(watchdog.STOPPED_S + 1)
        process.send_signal(signal.SIGCONT)
        assert process.wait(50) == 0


@pytest.mark.parametrize("limits", [("0", "0"), ("2", "0"), ("1", "3")])
def test_what_may_take_long_may_and_0_turns_it_off(limits):
    """A save of 4 s under a step's limit of 1 s and 3 s; a step of 4 s with no limit to its end."""
    words = ["checkpoint" if limits == ("1", "3") else "input"]
    program = NO_PROGRESS.replace("time.sleep(60)", "time.sleep(4)")
    done = subprocess.run([sys.executable, "-c", program, *limits, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0
    assert ("warning" in done.stderr) == (limits == ("2", "0"))
