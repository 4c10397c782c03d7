"""Prepares the worker processes of a pool."""

import multiprocessing
import multiprocessing.process
import os
import signal
import threading


def start() -> None:
    """Lets this process, a pool's worker, ignore Ctrl-C, which its parent handles, and end with its parent.

    It does nothing in a process that multiprocessing has not started.
    """
    if parent := multiprocessing.parent_process():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
    """Ends this process when its parent has ended: it would wait for work for ever."""
    parent.join()
    os._exit(1)
