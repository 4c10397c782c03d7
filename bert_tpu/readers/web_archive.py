"""Extracted text of a web archive, WET: records with a header, of which those of the type `conversion` are documents.

https://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/
"""

from collections.abc import Iterator
import io
import re

from bert_tpu.core import command
from bert_tpu.readers import decoding
from bert_tpu.readers.decoding import Counts

FORM = re.compile(r"^WARC-Type: *conversion\s*$", re.MULTILINE | re.IGNORECASE)
RECORD_BYTES = 64 << 20  # of a record at most: it is in memory as a whole
HEADER_BYTES = 1 << 16  # of a line of a header


def texts(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[str | None]:
    """The lines of each record's text, None after each. path: names the file in errors.

    Raises UserError for a record of another type, for one without its length or too long, and for a file cut short.
    """
    decoder, number = decoding.Decoder(path, counts, "record"), 0
    while fields := _header(file, path, number):
        number += 1
        kind, length = fields.get("warc-type", "").lower(), fields.get("content-length", "")
        if not re.fullmatch(r"\d{1,12}", length) or int(length) > RECORD_BYTES:
            raise command.UserError(
                f"{path} record {number} has the Content-Length {length!r}, not one up to {RECORD_BYTES}; correct it"
            )
        raw = file.read(int(length))
        if len(raw) < int(length):
            raise command.UserError(f"{path} ends inside record {number}: it was cut short; fetch it again")
        if kind == "conversion":
            text = decoder.decode(raw, number)
            yield from text.replace("\r\n", "\n").split("\n")
            yield None
        elif kind not in ("warcinfo", "metadata"):
            raise command.UserError(
                f"{path} record {number} is of the type {kind!r}, not text; give the archive's WET files"
            )


def _header(file: io.BufferedReader, path: str, number: int) -> dict[str, str]:
    """The fields of the next record's header, their names in lower case; empty at the end of the file."""
    fields: dict[str, str] = {}
    while line := file.readline(HEADER_BYTES):
        if not line.strip():
            if fields:
                return fields
            continue
        if not fields and not line.startswith(b"WARC/"):
            raise command.UserError(f"{path} has no header after record {number}: it is damaged; fetch it again")
        name, _, value = line.decode(errors="replace").partition(":" if fields else "/")
        fields[name.strip().lower()] = value.strip()
    if fields:
        raise command.UserError(f"{path} ends inside a header: it was cut short; fetch it again")
    return fields
