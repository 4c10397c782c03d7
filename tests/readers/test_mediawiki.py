"""A MediaWiki dump of any kind gives its articles whole and in order, or an error says what it has instead."""

import bz2
import tracemalloc

from helpers.text_sources import PACKERS, complaint, read
import pytest

from bert_tpu.readers import decoding, mediawiki, sources

ROOT = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">\n'
SITE = """<siteinfo><namespaces><namespace key="-2">Medium</namespace><namespace key="0" />
<namespace key="1">Diskussion</namespace><namespace key="6">Bilddatei</namespace>
<namespace key="14">Sach gruppe</namespace></namespaces></siteinfo>
"""


def page(text, title="t", ns="<ns>0</ns>", more="", model="wikitext"):
    """Returns a page of a dump."""
    return (
        f"<page><title>{title}</title>{ns}<id>1</id>{more}<revision><id>1</id><timestamp>2020-01-01T00:00:00Z</timestamp>"
        f"<model>{model}</model><text>{text}</text></revision></page>\n"
    )


PAGES = [
    page("'''One''' line.\nAnd “another”."),
    page("Talk.", ns="<ns>1</ns>"),
    page("#REDIRECT [[x]]", more='<redirect title="x"/>'),
    page("#weiterleitung: [[y]]"),
    page(" \n"),
    page("Second; é &amp;amp; {{gone}}中 🤗."),
    page("return {}", model="Scribunto"),
    page("Third."),
]
DUMP = ROOT + SITE + "".join(PAGES) + "</mediawiki>\n"
TEXTS = ["One line.\nAnd “another”.", "Second; é & 中 🤗.", "Third."]


def plain(path, text_format="auto"):
    """Returns the texts of the documents in a file, and the counts."""
    counts = sources.Counts()
    documents = sources.documents(sources.find([str(path)]), counts, text_format=text_format)
    return [document.plain() for document in documents], counts


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_dump_gives_its_articles_in_order_and_counts_other_pages(tmp_path, suffix):
    path = tmp_path / f"dump.xml{suffix}"
    path.write_bytes(PACKERS[suffix](DUMP.encode()))
    texts, counts = plain(path)
    assert texts == TEXTS
    assert counts == sources.Counts(
        read_bytes=path.stat().st_size,
        other_namespaces=1,
        redirects=2,
        empty_pages=1,
        other_models=1,
        forms={"mediawiki": 1},
    )
    words = "pages left out of dumps: in other namespaces 2, redirects 4, empty 2, code, data or discussions 2"
    assert decoding.report(decoding.add([counts, counts]))[1:] == [words]


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
@pytest.mark.parametrize(
    "dump",
    [
        '<?xml version="1.0" encoding="UTF-8"?>\n<!-- a -->\n' + DUMP,
        "\ufeff  \n" + DUMP,
        DUMP.replace(ROOT, "<mediawiki>"),
        DUMP.replace(SITE, ""),
        DUMP.replace("<mediawiki", "<mw:mediawiki").replace("</mediawiki", "</mw:mediawiki"),
        "".join(PAGES),
        f"<?xml version='1.0'?>\n{''.join(PAGES)}",
    ],
)
def test_whatever_stands_around_the_pages_they_are_read(tmp_path, monkeypatch, dump, chunk):
    monkeypatch.setattr(mediawiki, "CHUNK_BYTES", chunk)
    (tmp_path / "dump.xml").write_text(dump)
    texts, counts = plain(tmp_path / "dump.xml", "mediawiki")
    assert texts == TEXTS
    assert (counts.other_namespaces, counts.redirects) == (1, 2)


@pytest.mark.parametrize("chunk", [1, 5, 1 << 16])
def test_dumps_one_after_another_are_all_read(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(mediawiki, "CHUNK_BYTES", chunk)
    (tmp_path / "d.xml").write_text(f"{DUMP}{DUMP}\n<?xml version='1.0'?>{DUMP}")
    assert plain(tmp_path / "d.xml", "mediawiki")[0] == TEXTS * 3
    (tmp_path / "d.xml").write_text(f"\n{DUMP}\n{DUMP}".removesuffix("</mediawiki>\n") + "<x y=1/>")
    assert f"line {2 * DUMP.count(chr(10)) + 2} is not XML" in complaint(tmp_path / "d.xml", "mediawiki")


@pytest.mark.parametrize("encoding", ["UTF-8", "utf-16", "ISO-8859-1", "GB2312", "none"])
def test_utf_8_is_read_whatever_encoding_is_declared(tmp_path, encoding):
    (tmp_path / "d.xml").write_text(f"<?xml version='1.0' encoding='{encoding}'?>\n{DUMP}")
    assert plain(tmp_path / "d.xml")[0] == TEXTS


def test_another_encoding_is_read_as_declared_or_named(tmp_path):
    dump = f"{ROOT}{page('Ключ й.')}</mediawiki>"
    (tmp_path / "d.xml").write_bytes(f"<?xml version='1.0' encoding='windows-1251'?>{dump}".encode("cp1251"))
    assert plain(tmp_path / "d.xml")[0] == ["Ключ й."]
    for encoding in ("GB2312", "none"):
        (tmp_path / "d.xml").write_bytes(f"<?xml version='1.0' encoding='{encoding}'?>{dump}".encode("cp1251"))
        assert "declares an encoding that is not read" in complaint(tmp_path / "d.xml")


def test_a_dump_of_many_streams_is_read_to_its_end(tmp_path):
    cut = DUMP.index("<page>", 600)
    (tmp_path / "d.xml.bz2").write_bytes(b"".join(bz2.compress(part.encode()) for part in (DUMP[:cut], DUMP[cut:])))
    assert len(read(tmp_path / "d.xml.bz2")[0]) == 3


def test_pages_without_a_namespace_are_told_by_their_titles(tmp_path):
    titles = ["A: B", "Diskussion:A", "User talk:A", "Datei:A.jpg", "Sach gruppe:A", "A", "Template:A"]
    (tmp_path / "d.xml").write_text(
        ROOT + SITE + "".join(page(f"{t} is it.", t, ns="") for t in titles) + "</mediawiki>"
    )
    texts, counts = plain(tmp_path / "d.xml")
    assert texts == ["A: B is it.", "A is it."]
    assert counts.other_namespaces == 5


def test_names_of_files_and_categories_are_the_wikis_own(tmp_path):
    markup = "[[Bilddatei:A.jpg|mini|Boot]]Ein [[Boot]].\n[[sach_gruppe:Ort|x]] "
    markup += "[[Medium:A.ogg]] [[Datei:B.jpg|mini]] [[:Sach gruppe:A]]"
    (tmp_path / "d.xml").write_text(ROOT + SITE + page(markup) + "</mediawiki>")
    assert plain(tmp_path / "d.xml")[0] == ["Ein Boot.\nSach gruppe:A"]


def test_of_several_revisions_the_last_is_read(tmp_path):
    revision = "<revision><timestamp>20{:02}-01-01T00:00:00Z</timestamp><text>Year {}.</text></revision>"
    years = "".join(revision.format(year, year) for year in (10, 12, 11))
    (tmp_path / "d.xml").write_text(f"<mediawiki><page><title>t</title><ns>0</ns>{years}</page></mediawiki>")
    texts, counts = plain(tmp_path / "d.xml")
    assert texts == ["Year 12."]
    assert counts.old_revisions == 2


def test_other_contents_of_a_revision_are_not_its_text(tmp_path):
    slot = "<content><role>x</role><model>json</model><text>{}</text></content></revision>"
    (tmp_path / "d.xml").write_text(ROOT + page("Text.").replace("</revision>", slot) + "</mediawiki>")
    assert plain(tmp_path / "d.xml")[0] == ["Text."]


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.99])
def test_a_dump_that_was_cut_short_is_named(tmp_path, keep):
    (tmp_path / "dump.xml").write_text(DUMP[: int(len(DUMP) * keep)])
    assert "not a whole MediaWiki dump: it ends " in complaint(tmp_path / "dump.xml")
    raw = bz2.compress(DUMP.encode())
    (tmp_path / "dump.xml.bz2").write_bytes(raw[: int(len(raw) * keep)])
    assert "cut short" in complaint(tmp_path / "dump.xml.bz2")


@pytest.mark.parametrize(
    ("dump", "words"),
    [
        ("<feed><doc><title>a</title></doc></feed>", "has Wikimedia's abstracts"),
        ("<html><page/></html>", "has <html>, not MediaWiki's pages"),
        (
            ROOT + SITE + PAGES[1] * 3 + "</mediawiki>",
            "no articles, only pages of Diskussion (3); fetch pages-articles",
        ),
        (ROOT + page("").replace("<text>", '<text bytes="9">') + "</mediawiki>", "lists pages without their text"),
        (DUMP.replace("Third.", "Third\x0b."), f"line {DUMP[: DUMP.index('Third')].count(chr(10)) + 1} is not XML"),
        (DUMP.replace("Third.", "&nbsp;"), "is not XML (undefined entity)"),
    ],
)
def test_a_file_without_articles_is_named(tmp_path, dump, words):
    (tmp_path / "d.xml").write_text(dump)
    assert words in complaint(tmp_path / "d.xml", "mediawiki")


def test_a_long_dump_needs_little_memory(tmp_path):
    many = page("word " * 2000) * 1000 + page("word " * 2000).replace("</page>", page("x" * 10_000)[6:] * 1000, 1)
    many = many.replace("</page>\n<title>", "<title>")  # one page with a thousand revisions
    (tmp_path / "dump.xml").write_text(ROOT + many + "</mediawiki>")
    tracemalloc.start()
    number = sum(1 for _ in sources.documents(sources.find([str(tmp_path / "dump.xml")]), sources.Counts()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert number == 1001
    assert peak < 4e6
