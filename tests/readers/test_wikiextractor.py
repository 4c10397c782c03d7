"""Files of WikiExtractor give the text of the articles, unescaped once, without titles and addresses of links."""

import html
import json

from helpers.text_sources import read
import pytest

from bert_tpu.readers import wikiextractor

TEXT = 'Smith & Sons sold "3 < 5" for 5 > 3.\nIn HTML, "&amp;" means "&" & so on.'
MORE = "A second article of R&B."


def extract(text, title, number=0):
    """A document as WikiExtractor writes it."""
    return f'<doc id="{number}" url="https://x.org/wiki?curid={number}" title="{title}">\n{title}\n\n{text}\n\n</doc>\n'


def line(text, title, number=0):
    """A line of JSON as WikiExtractor writes it."""
    return (
        json.dumps({"id": str(number), "url": f"https://x.org/wiki?curid={number}", "title": title, "text": text})
        + "\n"
    )


def escape(text):
    """Escapes text as version 3 does."""
    return html.escape(text, quote=False)


@pytest.mark.parametrize("write", [extract, line])
@pytest.mark.parametrize("escaped", [True, False])
def test_text_is_unescaped_once_and_only_if_it_is_escaped(tmp_path, write, escaped):
    change = escape if escaped else str
    (tmp_path / "wiki_00").write_text(write(change(MORE), "AT&amp;T") + write(change(TEXT), 'A "B" C', 1))
    assert read(tmp_path / "wiki_00")[0] == [MORE, TEXT]


@pytest.mark.parametrize("write", [extract, line])
def test_no_cut_of_a_beginning_hides_that_a_file_is_escaped(write):
    """The 64 KiB that are looked at may end within an entity or within a tag."""
    file = (write(escape(MORE), "AT&amp;T") + write(escape(TEXT), "A", 1)).encode()
    for end in range(len(file) + 1):
        assert wikiextractor.Unescape(file[:end])("3 &lt; 5") == "3 < 5", file[:end][-20:]


@pytest.mark.parametrize("write", [extract, line])
def test_an_entity_in_text_that_is_not_escaped_stays(tmp_path, write):
    said = 'The entity "&amp;" is read as "&lt;" is.'
    (tmp_path / "wiki_00").write_text(
        write(said, "Entity") + write("word " * 9000 + "R&B.", "R&B", 1) + write(said, "E", 2)
    )
    texts, counts = read(tmp_path / "wiki_00")
    assert (texts[0], texts[2]) == (said, said)
    assert counts.html_entities == 4
    # Also where the first 64 KiB do not show it, from the first sign on.
    (tmp_path / "wiki_01").write_text(write("word " * 20_000, "Words") + write("R&B.", "R&B", 1) + write(said, "E", 2))
    assert read(tmp_path / "wiki_01")[0][2] == said


def test_other_json_lines_are_not_unescaped_but_their_entities_are_counted(tmp_path):
    (tmp_path / "a").write_text(
        json.dumps({"url": "https://x.org/wiki/A", "title": "A", "text": "A\nB &amp; C"}) + "\n"
    )
    texts, counts = read(tmp_path / "a")
    assert texts == ["A\nB &amp; C"]
    assert counts.html_entities == 1


def test_the_title_is_removed_once(tmp_path):
    (tmp_path / "a").write_text(
        extract("Page\nPage is a word.", "Page") + extract("Other.", "Title").replace("Title\n", "", 1)
    )
    assert read(tmp_path / "a")[0] == ["Page\nPage is a word.", "Other."]
    (tmp_path / "b").write_text(line("Page\n\nPage is a word.", "Page") + line("Pages are words.", "Page"))
    assert read(tmp_path / "b")[0] == ["Page is a word.", "Pages are words."]


@pytest.mark.parametrize("write", [extract, line])
def test_the_words_of_links_stay(tmp_path, write):
    text = 'A <a href="Boat%20%28x%29">boat</a> sails.'
    for change in (escape, str):
        (tmp_path / "a").write_text(write(change(text), "T"))
        assert read(tmp_path / "a")[0] == ["A boat sails."]
