"""Compiles a test's program for TPUs in a separate process, if libtpu is installed."""

import importlib.util
import os
import pathlib

from conftest import ROOT
import pytest

from helpers import warm_processes

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: make .venv/libtpu"
)


def compiled(program, out, home):
    """Runs `program`, a file of these tests that compiles for TPUs, in a process with a user's XLA_FLAGS.

    Returns the finished process. out: the program's argument; home: the process's home directory
    """
    path = f"{ROOT}{os.pathsep}{pathlib.Path(importlib.util.find_spec('libtpu').origin).parents[1]}"
    done = warm_processes.run(program, [out], env={"PYTHONPATH": path, "HOME": str(home)})
    assert done.returncode == 0, done.stderr
    return done
