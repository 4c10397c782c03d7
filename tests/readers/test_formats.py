"""A MediaWiki dump gives its articles, whole and in order, or an error says why not."""

import bz2
import tracemalloc

from helpers.text_sources import PACKERS, complaint, read
import pytest

from bert_tpu.readers import sources

SPACE = "http://www.mediawiki.org/xml/export-0.11/"
PAGES = [
    ("0", "'''One''' line.\nAnd “another”.", ""),
    ("1", "Talk.", ""),
    ("0", "#REDIRECT [[x]]", '<redirect title="x"/>'),
    ("0", "", ""),
    ("0", "Second; é &amp;amp; {{gone}}中 🤗.", ""),
    ("0", "Third.", ""),
]
DUMP = f'<mediawiki xmlns="{SPACE}" version="0.11">\n<siteinfo/>\n' + "".join(
    f"<page><title>t</title><ns>{ns}</ns>{more}<revision><id>1</id><text>{text}</text></revision></page>\n"
    for ns, text, more in PAGES
) + "</mediawiki>\n"  # fmt: skip


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_dump_gives_its_articles_in_order(tmp_path, suffix):
    path = tmp_path / f"dump.xml{suffix}"
    path.write_bytes(PACKERS[suffix](DUMP.encode()))
    counts = sources.Counts()
    documents = list(sources.documents(sources.find([str(path)]), counts))
    assert [document.plain() for document in documents] == ["One line.\nAnd “another”.", "Second; é & 中 🤗.", "Third."]
    assert all(document.is_markup for document in documents)
    assert counts.read_bytes == path.stat().st_size


def test_a_dump_of_many_streams_is_read_to_its_end(tmp_path):
    cut = DUMP.index("<page>", 300)
    (tmp_path / "d.xml.bz2").write_bytes(b"".join(bz2.compress(part.encode()) for part in (DUMP[:cut], DUMP[cut:])))
    assert len(read(tmp_path / "d.xml.bz2")[0]) == 3


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.99])
def test_a_dump_that_was_cut_short_is_named(tmp_path, keep):
    (tmp_path / "dump.xml").write_text(DUMP[: int(len(DUMP) * keep)])
    assert "not a whole MediaWiki dump" in complaint(tmp_path / "dump.xml")
    raw = bz2.compress(DUMP.encode())
    (tmp_path / "dump.xml.bz2").write_bytes(raw[: int(len(raw) * keep)])
    assert "cut short" in complaint(tmp_path / "dump.xml.bz2")


def test_a_long_dump_needs_little_memory(tmp_path):
    page = DUMP[DUMP.index("<page>") : DUMP.index("</page>") + 8].replace("One", "word " * 2000)
    (tmp_path / "dump.xml").write_text(DUMP.replace("<siteinfo/>", page * 2000))
    tracemalloc.start()
    number = sum(1 for _ in sources.documents(sources.find([str(tmp_path / "dump.xml")]), sources.Counts()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert number == 2003
    assert peak < 4e6
