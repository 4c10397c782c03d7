"""Compressed files as streams of their content: gzip, xz, bzip2 and zstd."""

import bz2
from collections.abc import Callable, Iterator
import contextlib
import functools
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
    openers: dict[str, Callable[..., Any]] = {
        "gzip": gzip.open,
        "xz": functools.partial(_Streams, make=lzma.LZMADecompressor, is_padded=True),
        "bzip2": functools.partial(_Streams, make=bz2.BZ2Decompressor),
    }
    if not packing:
        return raw
    if packing == "zstd":
        return io.BufferedReader(_zstd(raw, path), BUFFER_BYTES)
    return io.BufferedReader(openers[packing](raw), BUFFER_BYTES)


class _Streams(io.RawIOBase):
    """The content of a file of one or more compressed streams.

    If a later stream begins with an error, lzma.open and bz2.open report the end of the file and drop the rest.
    """

    def __init__(self, raw: io.BufferedReader, make: Callable[[], Any], is_padded: bool = False):
        """Begins with the first stream.

        raw: the open file
        make: returns a decompressor of one stream
        is_padded: whether there may be zeros behind a stream, as in xz
        """
        self._raw, self._make, self._is_padded, self._decompressor = raw, make, is_padded, make()

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fills the buffer with the next bytes and returns their number; 0 at the end of the last stream."""
        data = b""
        while not data:
            source = b""
            if self._decompressor.eof:
                source = self._next_stream()
                if not source:
                    return 0
                self._decompressor = self._make()
            elif self._decompressor.needs_input and not (source := self._raw.read(BUFFER_BYTES)):
                raise EOFError("it ends within a stream")
            data = self._decompressor.decompress(source, len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _next_stream(self) -> bytes:
        """Returns the beginning of the next stream; b"" if there is none."""
        source: bytes = self._decompressor.unused_data
        while True:
            if self._is_padded:
                source = source.lstrip(b"\0")
            if source or not (source := self._raw.read(BUFFER_BYTES)):
                return source


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
