"""The start of a command: it imports without garbage collection, and Ctrl-C during that prints no traceback."""

import gc
import os
import re
import signal
import subprocess
import sys
import threading

from conftest import ROOT
from etils import epath
import pytest

from bert_tpu.core import command


def settings():
    return gc.isenabled(), signal.getsignal(signal.SIGINT)


def test_imports_of_a_command_collect_no_garbage_and_end_with_ctrl_c():
    before = settings()
    assert before == (True, signal.default_int_handler)
    with command.imports():
        assert settings() == (False, signal.SIG_DFL)
    assert settings() == before
    with pytest.raises(ImportError), command.imports():
        raise ImportError
    assert settings() == before


def test_a_command_ignores_ctrl_c_where_its_parent_does():
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with command.imports():
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.signal(signal.SIGINT, handler) is signal.SIG_IGN


@pytest.mark.parametrize("name", ["bert_tpu.pretrain", "bert_tpu.finetune", "tools.plan", "tools.fill_mask"])
def test_ctrl_c_while_a_command_imports_ends_it_without_output(tmp_path, name):
    slow = "import gc, sys, time; print(gc.isenabled(), flush=True); time.sleep(60)"
    for package in ("ml_collections", "numpy", "absl"):
        (tmp_path / f"{package}.py").write_text(slow)
    process = subprocess.Popen(
        [sys.executable, "-m", name, "--help"],
        cwd=ROOT, env={"PYTHONPATH": str(tmp_path)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "False\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -signal.SIGINT  # 130 to a shell


def test_ctrl_c_ends_a_long_call_of_a_library_at_once():
    code = """if True:
        import hashlib
        from bert_tpu.core import command
        with command.ended_by_ctrl_c():
            print("ready", flush=True)
            hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # minutes, in which Python runs no handler
    """
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == -signal.SIGINT


def test_importing_the_package_changes_no_setting_of_the_importer(tmp_path):
    look = "import gc, signal; print(gc.isenabled(), signal.getsignal(signal.SIGINT).__name__)"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "__init__.py").write_text("import bert_tpu, tools")
    (tmp_path / "other" / "bert_tpu.py").write_text(look)
    for words in (["-c", f"import bert_tpu, tools; {look}"], ["-m", "other.bert_tpu"]):
        env = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
        done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, check=True)
        assert done.stdout == "True default_int_handler\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--wrkdir=W", "required: --workdir; did you mean --workdir instead of --wrkdir?"),
        ("--workdir W --sedes 3", "unrecognized arguments: --sedes 3; did you mean --seeds instead of --sedes?"),
        ("--workdir W --foo", "unrecognized arguments: --foo; --help lists the options"),
        ("--workdir W --seeds q", "argument --seeds: invalid int value: 'q'; --help lists the options"),
        ("--workdir W --seed 7", "unrecognized arguments: --seed 7; did you mean --seeds instead of --seed?"),
        ("", "required: --workdir; --help lists the options"),
    ],
)
def test_a_misspelt_option_gets_a_suggestion(words, message):
    parser = command.Parser()
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--seeds", type=int)
    parser.add_argument("-n", action="store_true")
    with pytest.raises(command.UserError, match=re.escape(message) + "$"):
        parser.parse_args(words.split())


@pytest.mark.parametrize("path", ["hf://datasets/a/b", "webdav://host/corpus"])
def test_a_path_in_an_unknown_store_is_named(path):
    with pytest.raises(SystemExit, match=f"^error: {path[:5]}.* cannot be read here"):
        command.run(lambda: (epath.Path(path) / "corpus.json").exists())


def test_a_command_in_a_notebook_does_not_plot_through_the_notebook(monkeypatch):
    """Notebooks set this variable for matplotlib, which refuses it where the notebook's packages are missing."""
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    found = []
    command.run(lambda: found.append(os.environ.get("MPLBACKEND")))
    assert found == [None]
    monkeypatch.setenv("MPLBACKEND", "Agg")
    command.run(lambda: found.append(os.environ.get("MPLBACKEND")))
    assert found == [None, "Agg"]


ENDING = """if True:
    import atexit, multiprocessing, sys, threading, time
    from bert_tpu.core import command

    def work():
        atexit.register(print, "at exit", flush=True)
        threading.Thread(target=lambda: (time.sleep(0.2), print("thread", flush=True))).start()
        print("main", flush=True)
        sys.exit(3)

    def in_copy():
        with command.whole_process():
            work()

    if sys.argv[1] == "copy":
        process = multiprocessing.get_context("fork").Process(target=in_copy)
        process.start()
        process.join()
        sys.exit(process.exitcode)
    work()
"""


def test_a_command_in_a_process_of_multiprocessing_ends_as_one_of_its_own():
    ends = [
        subprocess.run([sys.executable, "-c", ENDING, kind], cwd=ROOT, capture_output=True, text=True)
        for kind in ("own", "copy")
    ]
    assert [(end.stdout, end.returncode) for end in ends] == [("main\nthread\nat exit\n", 3)] * 2


INTERRUPTED = """if True:
    import multiprocessing, os, signal, threading, time
    from bert_tpu.core import command

    def main():
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True).start()
        threading.Thread(target=time.sleep, args=(60,)).start()
        print("a line")
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

    command.run(main)
"""


def test_ctrl_c_waits_for_no_thread_and_leaves_no_daemon():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.stdout, done.stderr, done.returncode) == ("a line\n", "stopped by Ctrl-C\n", 130)


def test_signals_end_the_child_that_is_waited_for_and_not_this_process():
    """The child ignores Ctrl-C, as a training does that saves first, and ends by SIGTERM."""
    code = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    timers = [
        threading.Timer(after, os.kill, (os.getpid(), number))
        for after, number in ((0.3, signal.SIGINT), (0.6, signal.SIGINT), (0.9, signal.SIGTERM))
    ]
    for timer in timers:
        timer.start()
    before = signal.getsignal(signal.SIGTERM)
    with child:
        command.wait_for(child.wait, child.terminate)
    assert child.returncode == -signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
