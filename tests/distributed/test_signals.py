"""Signals end a start-up at once, and a training run after a checkpoint."""

import os
import pty
import signal
import subprocess
import sys
import tempfile
import time

from conftest import ROOT
import pytest

from bert_tpu.distributed import signals


@pytest.fixture(autouse=True)
def without_nohup():
    """A hangup ends this process and those that it starts, also where the suite runs under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_start_up_ends_at_once(monkeypatch, capsys, number, code):
    exit_codes = []
    monkeypatch.setattr(os, "_exit", exit_codes.append)
    with signals.StopSignals():
        send(number)
        assert exit_codes == [code]
    assert capsys.readouterr().err == "\nstopped before the first step; the same command goes on\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_run_that_trains_only_notes_the_signal(number, code):
    with signals.StopSignals() as stop_signals:
        stop_signals.let_loop_save()
        assert not stop_signals.is_requested()
        assert stop_signals.exit_code() == 0
        send(number)
        assert stop_signals.is_requested()
        assert stop_signals.exit_code() == code


def test_a_second_ctrl_c_ends_it_at_once_but_neither_a_double_press_nor_a_second_sigterm(monkeypatch, capsys):
    exit_codes = []
    monkeypatch.setattr(os, "_exit", exit_codes.append)
    with signals.StopSignals() as stop_signals:
        stop_signals.let_loop_save()
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        send(signal.SIGINT)
        assert stop_signals.exit_code() == 130
        send(signal.SIGINT)
        assert exit_codes == []
        monkeypatch.setattr(signals, "TWICE_S", -1.0)
        send(signal.SIGINT)
        assert exit_codes == [130]
        assert "what was not saved yet is lost" in capsys.readouterr().err


def test_a_second_signal_at_once_does_not_hang_a_host_that_leaves():
    """Two SIGTERM within the time in which host 0 waits for the others, as a preemption may send them."""
    code = """
import os, signal, threading, time
from bert_tpu.distributed import hosts, signals
class Store:
    def key_value_set(self, *_, **options): os.kill(os.getpid(), signal.SIGTERM)
group = hosts.Hosts(0, 2)
group.store = Store()
with signals.StopSignals(group):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60)
    assert done.returncode == 143


def test_a_closed_terminal_lets_the_run_save_and_nohup_lets_it_go_on():
    """Writing to the closed terminal would fail, with EIO."""
    code = """
import os, signal, sys, time
from bert_tpu.distributed import signals
with signals.StopSignals() as stop_signals:
    stop_signals.let_loop_save()
    open(sys.argv[1] + "/ready", "w")
    for _ in range(1000):
        time.sleep(0.01)
        if stop_signals.is_requested():
            print("stopped", flush=True)
            print("stopped", flush=True, file=sys.stderr)
            open(sys.argv[1] + "/saved", "w")
            break
"""
    for is_ignored in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            terminal, other_end = pty.openpty()
            command = ("trap '' HUP; " if is_ignored else "") + 'exec "$@"'
            words = ["bash", "-c", command, "bash", sys.executable, "-c", code, folder]
            process = subprocess.Popen(words, cwd=ROOT, stdout=other_end, stderr=other_end)
            os.close(other_end)
            while not os.path.exists(f"{folder}/ready"):
                time.sleep(0.01)
            os.close(terminal)
            process.send_signal(signal.SIGHUP)
            if is_ignored:
                time.sleep(0.5)
                assert process.poll() is None
                process.kill()
            process.wait(timeout=60)
            assert os.path.exists(f"{folder}/saved") != is_ignored


def test_the_handlers_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with signals.StopSignals():
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] != before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
