"""Signals: at once while there is nothing to save, and a note for the loop afterwards."""

import os
import signal

import pytest

from bert_tpu.distributed import signals


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_start_up_is_left_at_once(monkeypatch, number, code):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    with signals.StopSignals():
        send(number)
        assert left == [code]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_loop_is_told(number, code):
    with signals.StopSignals() as stopping:
        stopping.let_loop_save()
        assert not stopping.is_requested()
        assert stopping.exit_code() == 0
        send(number)
        assert stopping.is_requested()
        assert stopping.exit_code() == code


def test_a_second_ctrl_c_ends_it_at_once_but_neither_a_double_press_nor_a_second_sigterm(monkeypatch, capsys):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    with signals.StopSignals() as stopping:
        stopping.let_loop_save()
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        send(signal.SIGINT)
        assert stopping.exit_code() == 130
        send(signal.SIGINT)
        assert left == []
        monkeypatch.setattr(signals, "TWICE_S", -1.0)
        send(signal.SIGINT)
        assert left == [130]
        assert "what was not saved yet is lost" in capsys.readouterr().err


def test_signals_are_given_back():
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with signals.StopSignals():
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] != before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
