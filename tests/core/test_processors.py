"""The processors that a process may use."""

import os
import subprocess
import sys

from conftest import ROOT

from bert_tpu.core import processors


def test_only_the_processors_of_this_process_count():
    code = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); from bert_tpu.core import processors; "
    done = subprocess.run([sys.executable, "-c", f"{code}print(processors.available())"], cwd=ROOT, capture_output=True)
    assert done.stdout == b"1\n", done.stderr


def test_a_system_that_does_not_say_gives_all(monkeypatch):
    """Python on macOS has no sched_getaffinity."""
    monkeypatch.delattr(os, "sched_getaffinity")
    assert processors.available() == os.cpu_count()
