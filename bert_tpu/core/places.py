"""Paths and files that may be in a bucket, gs://bucket/run for one."""

import os

from etils import epath


def is_bucket(path) -> bool:
    """True for a path of an object store, where files are written whole, cannot be locked and have no directories."""
    return "://" in os.fspath(path)


def absolute(path) -> epath.Path:
    """The path that does not depend on the working directory; epath itself would take a bucket for a folder in it."""
    path = epath.Path(path)
    return path if is_bucket(path) else path.absolute()


def mtime_ns(path) -> int:
    """When a file was written; in a bucket, to the second."""
    return epath.Path(path).stat().mtime * 10**9 if is_bucket(path) else os.stat(path).st_mtime_ns


def write_atomically(path, text):
    """`path` holds `text`, or what it held before."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
