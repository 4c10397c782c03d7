"""Compressed files as streams of their content: gzip, xz, bzip2 and zstd."""

import bz2
from collections.abc import Callable, Iterator
import contextlib
import gzip
import importlib
import io
import lzma
import sys
from typing import Any
import zlib

from bert_tpu.core import command

BUFFER_BYTES = 1 << 20
DAMAGE = (EOFError, OSError, lzma.LZMAError, zlib.error)  # raised by the decompressors, besides ZstdError


def unpack(raw: io.BufferedReader, packing: str, path: str) -> io.BufferedReader:
    """Opens the content of an open file.

    packing: gzip, xz, bzip2, zstd, or "" for a file that is not compressed.
    path: names the file in errors.
    """
    openers: dict[str, Callable[..., Any]] = {"gzip": gzip.open, "xz": lzma.open, "bzip2": bz2.open}
    if not packing:
        return raw
    if packing == "zstd":
        return io.BufferedReader(_zstd(raw, path), BUFFER_BYTES)
    return io.BufferedReader(openers[packing](raw), BUFFER_BYTES)


def _zstd(raw: io.BufferedReader, path: str) -> Any:
    """Opens zstd, also with the largest window (zstd --long=31), as archives of social media have it."""
    try:
        # backports.zstd is that of Python 3.14. Unlike the library zstandard, it reports a file that was cut short.
        zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:
        raise command.UserError(
            f"{path} is compressed by zstd, which needs backports.zstd: pip install 'bert_tpu[corpus]'"
        ) from None
    return zstd.open(raw, options={zstd.DecompressionParameter.window_log_max: 31})


@contextlib.contextmanager
def naming(path: str) -> Iterator[None]:
    """Raises a UserError that names `path` if the block meets a damaged archive."""
    try:
        yield
    except Exception as error:
        is_damage = isinstance(error, DAMAGE) or type(error).__name__ == "ZstdError"
        if not is_damage or getattr(error, "errno", None) is not None:  # an error of the system, not of the archive
            raise
        raise command.UserError(f"{path} is damaged or cut short ({error}); fetch or make it again") from None
