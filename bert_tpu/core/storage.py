"""Paths that may be in a bucket (gs://bucket/run), and files and directories that are written whole or not at all."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import errno
import fnmatch
import json
import os
from pathlib import Path
import secrets
import tempfile
import time
from typing import Any, BinaryIO

from etils import epath

from bert_tpu.core import command

PAUSES_S = (1, 4, 10)  # before another try to write to a bucket


def is_bucket(path: str | os.PathLike) -> bool:
    """True for a path of an object store. Its files are written whole and cannot be locked; it has no directories."""
    return "://" in os.fspath(path)


def local(path: str | os.PathLike) -> str:
    """Returns the path of a file or folder to write, and refuses a bucket's; also as the type of an option.

    Raises UserError for a path in a bucket, which pathlib would take for a folder named "gs:".
    """
    if is_bucket(path):
        raise command.UserError(f"{path} is in a bucket, where this cannot be written: give a local path, then copy it")
    return os.fspath(path)


def local_path(path: str) -> Path:
    """Returns `local(path)` as a Path: the type of an option."""
    return Path(local(path))


def absolute(path: str | os.PathLike) -> epath.Path:
    """The path that does not depend on the working directory. epath alone would take a bucket for a local folder."""
    whole = epath.Path(path)
    return whole if is_bucket(whole) else whole.absolute()


def named(folder: str | os.PathLike, pattern: str) -> list[epath.Path]:
    """Returns the paths in `folder` whose names match a pattern such as unit-*.json; [] if there is no such folder.

    epath's own glob reads a [ in the name of the folder as a part of the pattern, and then finds nothing.
    """
    if is_bucket(folder):  # where listing fails if nothing has a name in the folder yet
        return list(epath.Path(folder).glob(pattern))
    try:
        return [path for path in epath.Path(folder).iterdir() if fnmatch.fnmatchcase(path.name, pattern)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def check_orbax_can_write(path: str | os.PathLike, option: str) -> None:
    """Raises UserError for a path with a [, in which Orbax looks for its own files by a pattern and misses them.

    option: the option that set the path
    """
    if "[" in os.fspath(path):
        raise command.UserError(
            f"{option} {path} has a [, and Orbax cannot write checkpoints to such a path: give another one"
        )


def mtime_ns(path: str | os.PathLike) -> int:
    """The time in ns when a file was last written; in a bucket, to the second."""
    return epath.Path(path).stat().mtime * 10**9 if is_bucket(path) else os.stat(path).st_mtime_ns


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys: equal contents give equal bytes."""
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` to `path` as `write_bytes` does. Bytes of a file's name that are not UTF-8 are escaped."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: str | os.PathLike, raw: bytes) -> None:
    """Writes `raw` to `path`, whole or not at all. A bucket writes every object whole."""
    if is_bucket(path):
        in_bucket(path, lambda: epath.Path(path).write_bytes(raw))
        return
    with atomic_file(path) as partial:
        partial.write(raw)


def in_bucket(path: str | os.PathLike, write: Callable[[], Any]) -> None:
    """Calls `write`, which writes to `path` in a bucket, and again after each of PAUSES_S if the bucket refuses.

    A bucket, or the network, may fail for a moment. Raises OSError if the last try fails, also for
    the errors of TensorFlow's client, which are not OSErrors.
    """
    for pause_s in (*PAUSES_S, None):
        try:
            write()
            return
        except Exception as fault:
            is_tensorflows = type(fault).__module__.startswith("tensorflow.")
            if not (is_tensorflows or isinstance(fault, OSError)):
                raise
            if pause_s is None:
                reason = " ".join(str(getattr(fault, "message", fault)).split())[:300]
                raise OSError(errno.EIO, reason, os.fspath(path)) from fault
            time.sleep(pause_s)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Yields a file to write; it replaces `path` once the block ends well and its bytes are on disk.

    If the block fails, `path` stays as it was. An OSError names `path`, which Python leaves out for a full disk. Raises
    UserError if `path` is a directory or in a bucket.
    """
    path = Path(local(path)).absolute()
    if path.is_dir():
        raise command.UserError(f"{path} is a directory: give the name of a file in it")
    path.parent.mkdir(parents=True, exist_ok=True)
    # A random name: a killed run may have left such a file, and another machine may be writing the same path.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}.partial")
    try:
        with open(partial, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a new directory to fill; it becomes `path` once the block ends well, and is removed if the block fails.

    Raises UserError, before any work, if `path` is a file, a directory that is not empty, or in a bucket.
    """
    path = Path(local(path)).absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise command.UserError(f"{path} exists and is not an empty directory: give another --out or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
        partial = Path(temporary) / path.name  # one level deeper: mkdtemp makes its own directory private (0700)
        partial.mkdir()
        yield partial
        partial.replace(path)
