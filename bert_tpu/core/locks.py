"""Locks between processes. The system unlocks however a process ends."""

from collections.abc import Iterator
import contextlib
import fcntl
import os

from bert_tpu.core import storage


@contextlib.contextmanager
def hold(path: str | os.PathLike, *, shared: bool = False, wait: bool = False) -> Iterator[bool]:
    """Locks a file, which is created if missing, or a folder; yields whether this process got the lock.

    A bucket has no locks: there the answer is always yes.

    shared: whether others may hold it too, shared as well
    wait: whether to wait until it is free
    """
    if storage.is_bucket(path):
        yield True
        return
    handle = os.open(path, os.O_RDONLY if os.path.isdir(path) else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(handle, kind if wait else kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
