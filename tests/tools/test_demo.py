"""The demo's commands take the options that it gives them; a command that fails ends it with that command's error."""

import argparse
import multiprocessing
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

from conftest import ROOT
import pytest

from bert_tpu.cli import completion, contents
from bert_tpu.core import config
from tools import demo


@pytest.mark.parametrize("own", [{}, {"text": "*.txt", "task": Path("task"), "bias": "benchmarks"}])
def test_each_command_takes_its_words(own, tmp_path):
    args = argparse.Namespace(**{"out": tmp_path, "text": None, "task": None, "bias": None} | own)
    stages = demo.stages(args, args.text or "docs.txt", tmp_path / "docs")
    collected = {stage.name for stage in stages} & {"collect-docs", "collect-task"}
    assert len(collected) == (0 if own else 2)
    for stage in stages:
        changes, words = config.split_argv([str(word) for word in stage.words])
        parser = completion.options_of(contents.find(stage.name))
        parsed = argparse.ArgumentParser.parse_known_args(parser, words)
        assert parsed[1] == []
        if changes:
            config.load_changed(parsed[0].config, changes)


def test_a_failing_command_ends_the_demo_with_its_error(tmp_path, capfd):
    stage = demo.Stage("result", "fill-mask", ["--model", tmp_path / "nowhere", "a [MASK]"])
    with pytest.raises(SystemExit) as ended:
        demo._run(multiprocessing.get_context("spawn"), stage, tmp_path / "log.txt")
    assert ended.value.code == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith(f"error: there is no {tmp_path}/nowhere")
    assert lines[1:] == ["the demo stops here; bert-tpu demo with the same options continues it"]
    assert lines[0] in (tmp_path / "log.txt").read_text()


def test_without_a_terminal_progress_is_printed_now_and_then(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(demo, "SILENT_S", 0.3)
    errors, end = multiprocessing.Pipe(duplex=False)
    printing = threading.Thread(target=demo._print, args=(errors, tmp_path / "log.txt"))
    printing.start()
    with open(end.fileno(), "w", closefd=False) as lines:
        for number in range(8):
            print(f"step {number}  5 seq/s", file=lines, flush=True)
            time.sleep(0.1)
        print("a sentence", file=lines, flush=True)
    end.close()
    printing.join()
    printed = capfd.readouterr().err.splitlines()
    assert printed[-1] == "a sentence"
    assert 2 <= len(printed) <= 4
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 9


def test_another_text_task_or_benchmark_has_its_own_folder(tmp_path):
    assert demo.name_of("a/*.txt") != demo.name_of("b/*.txt")


def test_parts_without_their_packages_are_left_out_by_name():
    planned = [demo.Stage("one", "embed", []), demo.Stage("two", "onnx", [], needs=("no_such_package", "json"))]
    assert demo.divide(planned[:1]) == (planned[:1], "")
    possible, sentence = demo.divide(planned)
    assert possible == planned[:1]
    assert sentence.startswith("left out for lack of no_such_package: two; pip install 'bert_tpu[demo]'")


def test_sigterm_reaches_the_command_and_its_workers(tmp_path):
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGTERM)).start()
    stage = demo.Stage("documentation", "collect-docs", ["--out", tmp_path / "docs.txt"])
    with pytest.raises(SystemExit) as end:
        demo._run(multiprocessing.get_context("spawn"), stage, tmp_path / "log.txt")
    assert end.value.code == 143
    assert not (tmp_path / "docs.txt").exists()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_workers_of_a_pool_end_with_a_killed_parent():
    code = """if True:
        import concurrent.futures, os, time
        from bert_tpu.core import worker_process
        with concurrent.futures.ProcessPoolExecutor(2, initializer=worker_process.start) as pool:
            print(*{pool.submit(os.getpid).result() for _ in range(20)}, flush=True)
            time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        workers = [Path("/proc") / pid for pid in parent.stdout.readline().split()]
        parent.kill()
    assert workers
    deadline = time.monotonic() + 20
    while any(is_running(path) for path in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(process):
    """Returns whether the process of this folder in /proc is there and has not ended. Nobody may have waited for it."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
