"""A directory or a file that is there whole or not at all."""

from collections.abc import Iterator
import contextlib
import os
from pathlib import Path
import tempfile
from typing import BinaryIO

from bert_tpu.core import command


@contextlib.contextmanager
def directory(out) -> Iterator[Path]:
    """Gives a new directory to fill beside `out`; it is `out` once the block ends well, and gone if it fails.

    Raises UserError, before any work, where `out` holds something.
    """
    out = Path(out).absolute()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise command.UserError(f"{out} exists and is no empty directory: give another --out or remove it")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        made = Path(temporary) / out.name  # one deeper, as mkdtemp's own directory is closed to others (0700)
        made.mkdir()
        yield made
        made.replace(out)


@contextlib.contextmanager
def file(out) -> Iterator[BinaryIO]:
    """Gives a file to write; `out` is it once the block ends well, and what it was before if that fails.

    Raises UserError where `out` is a directory.
    """
    out = Path(out).absolute()
    if out.is_dir():
        raise command.UserError(f"{out} is a directory: give the name of a file in it")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as made:
            yield made
        temporary.replace(out)
    finally:
        temporary.unlink(missing_ok=True)
