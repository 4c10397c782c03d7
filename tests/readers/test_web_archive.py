"""The text of a web archive is read by record, without the records' headers."""

import gzip

from helpers.text_sources import DOCUMENTS, complaint, read
import pytest


def record(kind, body, length=None):
    size = len(body.encode()) if length is None else length
    return f"WARC/1.0\r\nWARC-Type: {kind}\r\nContent-Length: {size}\r\n\r\n{body}\r\n\r\n".encode()


RECORDS = [record("warcinfo", "Software-Info: x\r\n"), *(record("conversion", text) for text in DOCUMENTS)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_each_record_of_text_is_a_document(tmp_path, pack):
    (tmp_path / "a.wet").write_bytes(b"".join(map(pack, RECORDS)))  # Common Crawl packs each record by itself
    documents, counts = read(tmp_path / "a.wet")
    assert documents == DOCUMENTS
    assert counts.forms == {"wet": 1}


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (record("response", "HTTP"), "record 5 is of the type 'response', not text"),
        (record("conversion", "a", "x"), "record 5 has the Content-Length 'x'"),
        (record("conversion", "a", 1 << 40), "record 5 has the Content-Length"),
        (record("conversion", "a", 9), "ends inside record 5"),
        (b"junk\r\n", "has no header after record 4"),
        (b"WARC/1.0\r\nWARC-Type: conv", "ends inside a header"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, raw, message):
    (tmp_path / "a.wet").write_bytes(b"".join(RECORDS) + raw)
    assert message in complaint(tmp_path / "a.wet")
