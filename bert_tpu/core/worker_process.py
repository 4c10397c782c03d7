"""Prepares the worker processes of a pool."""

import multiprocessing
import os
import signal
import threading


def start() -> None:
    """Lets this process, a pool's worker, ignore Ctrl-C, which its parent handles, and end with its parent.

    It does nothing in a process that multiprocessing has not started.
    """
    if multiprocessing.parent_process() is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # After a kill of the parent, a pool's workers would wait for work for ever.
    parent = multiprocessing.parent_process()
    assert parent is not None, "start() is for child processes"
    parent.join()
    os._exit(1)
