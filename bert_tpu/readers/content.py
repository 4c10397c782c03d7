"""The kind of a file from its first bytes: how it is packed, and in which format its text is."""

import codecs
import json
import re

HEAD_BYTES = 1 << 16  # of a file, and of its unpacked content, that decide
MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"PAR1": "parquet",
}
# Whatever may stand before the root of an XML file.
PROLOG = re.compile(rb"(\s+|<\?xml.*?\?>|<!--.*?-->|<!DOCTYPE[^>\[]*(\[.*?\])?\s*>)*", re.DOTALL | re.IGNORECASE)
ROOTS = {b"<doc ": "wiki", b"<mediawiki": "mediawiki", b"<page": "mediawiki"}


def packing(head: bytes, path: str) -> str:
    """How a file is packed: gzip, xz, bzip2, parquet, or "" for not at all. head: its first HEAD_BYTES."""
    return next((kind for magic, kind in MAGIC.items() if head.startswith(magic)), "")


def form(head: bytes, path: str) -> str:
    """The format of text, a key of formats.READERS. head: the first HEAD_BYTES of the unpacked file."""
    text = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if text.startswith(b"{"):
        try:
            if isinstance(json.loads(text.partition(b"\n")[0]), dict):
                return "jsonl"
        except (ValueError, RecursionError):
            pass
    if path.removesuffix(".gz").removesuffix(".xz").removesuffix(".bz2").endswith((".json", ".jsonl", ".ndjson")):
        return "jsonl"
    prolog = PROLOG.match(text)
    root = text[prolog.end() if prolog else 0 :]
    return next((kind for start, kind in ROOTS.items() if root.startswith(start)), "text")
