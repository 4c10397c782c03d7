"""The log: means of sums, lines that a restart neither loses nor doubles, and a live line on a terminal."""

import contextlib
import errno
import json
import os
import pty
import select
import sys
import termios

import pytest

from bert_tpu.core import jsonl, progress
from bert_tpu.monitoring import log


def new_log(directory, **changes):
    options = dict(
        workdir=directory, every_steps=4, to=(), first_step=0, num_steps=10, batch_size=8, rows=lambda _: 8,
        batch_share=lambda _: 1.0,
        objectives=("mlm_loss", "nsp_loss"), learning_rate=lambda step: step / 100, work=lambda step: step, peak_s={},
        unlogged={}, config={}, writes=True,
    )  # fmt: skip
    return log.Log(**options | changes)


def sums(step):
    """The sums of step n: n predictions, each with loss 1 / n, and 8 rows with loss 2."""
    return {"mlm_loss": (1.0, step), "nsp_loss": (16.0, 8), "mlm_accuracy": (step / 4, step), "nsp_accuracy": (6, 8)}


def take(log, *steps, seq_len=16):
    for step in steps:
        log.step(step, seq_len, sums(step), 0.5, 0.1)


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_means_weigh_predictions_not_steps(tmp_path):
    take(new_log(tmp_path), 1, 2, 3, 4)
    (line,) = lines(tmp_path)
    assert line == {
        "step": 4, "kind": "train", "seq_len": 16, "loss": 2.4, "mlm_loss": 0.4, "nsp_loss": 2.0,
        "mlm_accuracy": 0.25, "nsp_accuracy": 0.75, "input_wait": 0.2, "learning_rate": 0.03,
        "examples": 8, "examples_per_sec": 16.0, "tokens_per_sec": 256.0, "steps": 4,
    }  # fmt: skip


def test_a_disk_that_fails_for_a_moment_ends_no_run_and_loses_no_line(tmp_path, capsys, monkeypatch):
    log = new_log(tmp_path, num_steps=16)
    take(log, 1, 2, 3, 4)

    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(jsonl, "append", fail)
        take(log, 5, 6, 7, 8, 9, 10, 11, 12)
    assert [line["step"] for line in lines(tmp_path)] == [4]
    take(log, 13, 14, 15, 16)
    assert [line["step"] for line in lines(tmp_path)] == [4, 8, 12, 16]
    assert capsys.readouterr().err.count("metrics.jsonl cannot be written (Input/output error)") == 1


def test_skipped_steps_are_counted_and_a_line_may_have_nothing_else(tmp_path, capsys):
    log = new_log(tmp_path)
    nothing = dict.fromkeys(sums(1), (0.0, 0.0))
    for step in range(1, 9):
        skipped = step > 2
        log.step(step, 16, (nothing if skipped else sums(step)) | {"skipped": (float(skipped), 1.0)}, 0.5, 0.1)
    first, second = lines(tmp_path)
    assert (first["skipped"], first["mlm_loss"]) == (2, pytest.approx(2 / 3, rel=1e-5))  # of steps 1 and 2 alone
    assert second["skipped"] == 4
    assert not {"loss", "mlm_loss", "nsp_loss"} & second.keys()
    assert "16: no step had a finite loss and gradient  16 seq/s" in capsys.readouterr().err


def test_last_step_has_a_line_and_lengths_have_their_own(tmp_path):
    log = new_log(tmp_path)
    take(log, 5, 7)
    take(log, 6, seq_len=32)
    take(log, 8, 9, 10)
    assert [(line["step"], line["seq_len"]) for line in lines(tmp_path)] == [(8, 16), (8, 32), (10, 16)]


def test_mfu_is_the_share_of_the_peak(tmp_path):
    take(new_log(tmp_path, peak_s={16: 0.2}), 1, 2, 3, 4)
    assert lines(tmp_path)[0]["mfu"] == 0.4


def test_speeds_count_the_rows_that_each_step_had(tmp_path):
    """Two steps with a quarter of the batch and two full ones, half a second each."""
    take(new_log(tmp_path, peak_s={16: 0.2}, batch_share=lambda step: 0.25 if step < 2 else 1.0), 1, 2, 3, 4)
    (line,) = lines(tmp_path)
    rows = 2 + 2 + 8 + 8
    seconds = 4 * 8 / speeds_of_full_batches(tmp_path / "full")["examples_per_sec"]
    assert line["examples_per_sec"] == pytest.approx(rows / seconds)
    assert line["tokens_per_sec"] == pytest.approx(16 * rows / seconds)
    assert line["mfu"] == pytest.approx(0.4 * rows / (4 * 8))
    assert "batch_share" not in line
    take(new_log(tmp_path, peak_s={16: 0.2}, update_s=0.08, batch_share=lambda step: 0.25), 1, 2, 3, 4)
    assert lines(tmp_path)[-1]["mfu"] == pytest.approx(0.4 * (0.12 / 4 + 0.08) / 0.2)


def speeds_of_full_batches(directory):
    directory.mkdir()
    take(new_log(directory), 1, 2, 3, 4)
    return lines(directory)[0]


def test_a_restart_continues_in_the_middle_of_a_line(tmp_path):
    (tmp_path / "whole").mkdir()
    take(new_log(tmp_path / "whole"), *range(1, 11))
    log = new_log(tmp_path)
    take(log, *range(1, 7))
    unlogged = json.loads(json.dumps(log.unlogged()))
    take(log, 7, 8, 9)  # and then it was killed
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "kin')
    take(new_log(tmp_path, first_step=6, unlogged=unlogged), 7, 8, 9, 10)
    assert lines(tmp_path) == lines(tmp_path / "whole")


def test_a_sum_that_only_earlier_releases_have_is_in_no_line(tmp_path):
    times = {"seconds": (1.0, 2), "input_wait": (0.1, 1.0)}
    take(new_log(tmp_path, first_step=6, unlogged={"32": sums(6) | times | {"recomputed": (1.0, 2.0)}}), 7, 8)
    assert [(line["seq_len"], "recomputed" in line) for line in lines(tmp_path)] == [(16, False), (32, False)]


def test_only_one_process_writes(tmp_path, capsys):
    log = new_log(tmp_path, writes=False)
    take(log, *range(1, 11))
    log.evaluation(10, {16: sums(10)})
    log.say("something")
    log.close()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_a_log_file_gets_whole_lines(tmp_path, capsys):
    log = new_log(tmp_path)
    take(log, *range(1, 5))
    log.evaluation(4, {16: sums(4)})
    log.close()
    train, evaluation = capsys.readouterr().err.splitlines()
    assert train.startswith("step  4/10  16: loss 2.400  mlm 25.0%  nsp 75.0%  16 seq/s")
    assert evaluation == "step  4/10  held-out 16: loss 2.250  mlm 25.0%  nsp 75.0%  mlm loss 0.250  nsp loss 2.000"


@contextlib.contextmanager
def screen():
    """Makes standard error a terminal of 60 columns; yields a function that reads the terminal's output."""
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 60))

    def output():
        text = b""
        while select.select([controller], [], [], 0.2)[0]:  # the kernel needs some time to pass it on
            text += os.read(controller, 65536)
        return text.decode()

    with open(terminal, "w") as stderr, contextlib.redirect_stderr(stderr):
        yield output
    os.close(controller)


def test_live_line_is_written_over_and_fits(tmp_path, monkeypatch):
    now_s = 1000.0
    monkeypatch.setattr(log.time, "monotonic", lambda: now_s)
    with screen() as output:
        run_log = new_log(tmp_path, num_steps=40_000, work=lambda step: step if step <= 4 else 4 + 10 * (step - 4))
        for step in range(1, 5):
            now_s += 1.0
            take(run_log, step)
        run_log.evaluation(4, {16: sums(4)})
        run_log.close()
        texts = output().split(progress.CLEAR)
    assert texts[2].startswith("step      2/40,000  ")
    # One unit of work a second so far, and 10 x 39,996 units to go: the estimate counts the long rows at the end.
    assert texts[4] == "step      4/40,000  111:06:00 left  16: loss 2.400  mlm 25.0%"[:59]
    assert texts[5].startswith("step      4/40,000  held-out 16: loss 2.250")
    assert texts[5].endswith("\r\n")


def test_live_line_ends_before_later_output(tmp_path):
    with screen() as output:
        run_log = new_log(tmp_path)
        take(run_log, 1)
        run_log.close()
        print("error: something", file=sys.stderr, flush=True)
        assert output().endswith("\r\nerror: something\r\n")


def test_live_line_is_drawn_seldom_for_quick_steps(tmp_path):
    with screen() as output:
        take(new_log(tmp_path, num_steps=100, every_steps=100), *range(1, 41))
        assert output().count(progress.CLEAR) < 10
