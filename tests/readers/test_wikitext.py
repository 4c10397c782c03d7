"""WikiText's files are articles, also where each line is a row of a table."""

import json

from helpers.text_sources import read
import pyarrow
from pyarrow import parquet
import pytest

from bert_tpu.readers import sources

LINES = [
    " ", " = A boat = ", " ", " It has a high @-@ speed engine of 1 @,@ 000 kg . ", " = = History = = ", " ",
    " In 2 @.@ 5 years <unk> built it . ", " ", " = = = Early = = = ", " = Another boat = ", " ", " It sank . ",
    " a = b = c ",
]  # fmt: skip
ARTICLES = [
    " It has a high-speed engine of 1,000 kg . \n In 2.5 years <unk> built it . ",
    " It sank . \n a = b = c ",
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_between_two_titles_are_an_article(tmp_path, end):
    (tmp_path / "wiki.train.tokens").write_bytes("".join(line + end for line in LINES).encode())
    documents, counts = read(tmp_path / "wiki.train.tokens")
    assert documents == ARTICLES
    assert (counts.forms, counts.unknown_words) == ({"wikitext": 1}, 1)


def test_a_displayed_equation_is_no_title(tmp_path):
    (tmp_path / "a.txt").write_text("One text.\n\nAn equation:\n = a + b = \nfollows.\n\nAnother text.\n")
    documents, counts = read(tmp_path / "a.txt")
    assert (len(documents), counts.forms) == (3, {"text": 1})


def test_so_they_are_as_rows_and_other_rows_stay_documents(tmp_path):
    def written(texts):
        parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "a.parquet")
        return read(tmp_path / "a.parquet")

    documents, counts = written([line + "\n" for line in LINES])
    assert documents == ARTICLES
    assert counts.read_bytes == (tmp_path / "a.parquet").stat().st_size
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"{line}\n"}) + "\n" for line in LINES))
    assert read(tmp_path / "a.jsonl")[0] == ARTICLES
    assert written(["One text.", "= A = title", " = A title = \nand its text.\nMore."])[0][1] == "= A = title"


@pytest.mark.parametrize("rows", [1, 2, 5, 40])
def test_articles_are_whole_and_once_where_a_file_is_read_in_shares(tmp_path, rows):
    table = pyarrow.table({"text": [f"{line}\n" for line in LINES * 3]})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=rows)
    (source,) = sources.find([str(tmp_path / "a.parquet")])
    for shares in (1, 2, 3, 7):
        parts = [source._replace(share=(i, shares)) for i in range(shares)]
        texts = [[d.text for d in sources.documents([part], sources.Counts())] for part in parts]
        assert [text for part in texts for text in part] == ARTICLES * 3
        counts = sources.Counts()
        assert [d.text for d in sources.documents(parts, counts)] == ARTICLES * 3
        assert counts.read_bytes == source.bytes


def test_few_rows_are_looked_at_before_the_first_article(tmp_path, monkeypatch):
    read_rows = []
    monkeypatch.setattr(sources, "_column", lambda *_: (read_rows.append(1) or b"x" * 1000 for _ in range(10**4)))
    parquet.write_table(pyarrow.table({"text": ["a"]}), tmp_path / "a.parquet")
    documents = sources.documents(sources.find([str(tmp_path / "a.parquet")]), sources.Counts())
    next(documents)
    assert len(read_rows) < 1100
