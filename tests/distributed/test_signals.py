"""Signals end a start-up at once, and a training run after a checkpoint."""

import os
import signal

import pytest

from bert_tpu.distributed import signals


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_start_up_ends_at_once(monkeypatch, capsys, number, code):
    exit_codes = []
    monkeypatch.setattr(os, "_exit", exit_codes.append)
    with signals.StopSignals():
        send(number)
        assert exit_codes == [code]
    assert capsys.readouterr().err == "\nstopped before the first step\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
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


def test_the_handlers_are_restored():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with signals.StopSignals():
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] != before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
