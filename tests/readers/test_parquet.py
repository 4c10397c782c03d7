"""A column of a Parquet file gives its values, whatever type holds text, or one sentence says what it is instead."""

import contextlib
import io
import random
import types

from helpers import text_sources
import pytest

from bert_tpu.core import command
from bert_tpu.readers import parquet, sources

pyarrow = pytest.importorskip("pyarrow")
files = pytest.importorskip("pyarrow.parquet")

VALUES = ["One line.\nAnd “another”.", None, "Second; é 中 🤗.", ""]
BYTES = [value if value is None else value.encode() for value in VALUES]


def packed(table, **options):
    """Returns the bytes of a Parquet file."""
    file = io.BytesIO()
    files.write_table(table, file, **options)
    return file.getvalue()


def texts(raw, column="text", share=(0, 1)):
    return list(parquet.texts(io.BytesIO(raw), "a.parquet", column, share))


def complaint(raw, column="text"):
    with pytest.raises(command.UserError) as raised:
        texts(raw, column)
    message = command.sentence(raised.value)
    assert "a.parquet" in message
    assert len(message) < 500
    return message


def test_a_file_is_a_source_and_missing_values_count_as_empty_documents(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(packed(pyarrow.table({"text": VALUES, "title": ["t"] * 4})))
    found, counts = text_sources.read(path)
    assert found == [VALUES[0], "", VALUES[2], ""]
    assert counts.read_bytes == path.stat().st_size
    documents = sources.documents(sources.find([str(path)]), sources.Counts(), column="title")
    assert [document.text for document in documents] == ["t"] * 4
    path.write_bytes(path.read_bytes()[:-20])
    assert "not a Parquet file" in text_sources.complaint(path)
    path.write_bytes(packed(pyarrow.table({"text": ["Größe, Übung, äußerst schön. ".encode("latin-1") * 9]})))
    assert text_sources.complaint(path).endswith("if that is right, write the texts decoded by CP1252")


TYPES = ["string", "large_string", "string_view", "binary", "large_binary", "binary_view"]


@pytest.mark.parametrize("name", TYPES)
def test_every_type_of_text_is_read(name):
    column = pyarrow.array(BYTES if "binary" in name else VALUES, getattr(pyarrow, name)())
    assert texts(packed(pyarrow.table({"id": range(len(column)), "text": column}))) == BYTES
    if "view" not in name:  # pyarrow has no dictionaries of views
        column = pyarrow.concat_arrays([column, column]).dictionary_encode()
        assert texts(packed(pyarrow.table({"text": column}))) == BYTES * 2


def test_strings_need_not_be_utf8():
    offsets, letters = pyarrow.array([b"a\xff"]).buffers()[1:]
    column = pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, offsets, letters])
    assert texts(packed(pyarrow.table({"text": column}))) == [b"a\xff"]


def test_a_column_of_missing_values_only_is_read():
    assert texts(packed(pyarrow.table({"text": pyarrow.nulls(2)}))) == [None, None]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([["a"], None], "column text is list<element: string>, not text; set --column to title"),
        ([[{"role": "user", "content": "a"}]], "column text is list<element: struct<role: string, content: string>>"),
        ([{"body": "a", "n": 1}], "struct<body: string, n: int64>, not text; set --column to one of text.body, title"),
        (pyarrow.array([[("a", "b")]], pyarrow.map_(pyarrow.string(), pyarrow.string())), "is map<string, string"),
        ([1], "column text is int64"),
        ([1.5], "column text is double"),
        ([True], "column text is bool"),
        (pyarrow.array([0], pyarrow.date32()), "column text is date32"),
        (pyarrow.array([b"ab"], pyarrow.binary(2)), "column text is fixed_size_binary[2]"),
        ([[{"a long name of a field": 1, "another long name": [{"and a third one": 2}]}]], "...,"),
    ],
)  # fmt: skip
def test_another_type_is_refused_by_name(column, words):
    table = pyarrow.table({"text": column, "title": ["t"] * len(column)})
    assert words in complaint(packed(table))


def test_a_missing_or_doubled_column_is_refused():
    raw = packed(pyarrow.table({"id": [1], "body": ["a"], "title": [b"b"]}))
    assert complaint(raw) == "a.parquet has no column 'text'; set --column to body"
    chat = pyarrow.table({"id": [1], "messages": [[{"role": "user", "content": "a"}]]})
    words = "no column has text (id: int64, messages: list<element: struct<role: string, content: string>>): write one"
    assert words in complaint(packed(chat))
    assert "set --column to one of ' text', Text" in complaint(packed(pyarrow.table({" text": ["a"], "Text": ["b"]})))
    assert "set --column to image" in complaint(packed(pyarrow.table({"image": [b"a"]})))
    doubled = pyarrow.table([["a"], ["b"]], names=["text", "text"])
    assert "has 2 columns 'text'" in complaint(packed(doubled))


def test_a_name_with_dots_reaches_into_structs():
    answers = [{"text": "a", "more": {"text": "b"}}, None, {"text": None, "more": None}]
    raw = packed(pyarrow.table({"answer": answers, "a.b": ["x", "y", "z"]}))
    assert texts(raw, "answer.text") == [b"a", None, None]
    assert texts(raw, "answer.more.text") == [b"b", None, None]
    assert texts(raw, "a.b") == [b"x", b"y", b"z"]
    assert "answer.text, answer.more.text, a.b" in complaint(raw, "answer")


@pytest.mark.parametrize("shares", [1, 2, 3, 40])
def test_shares_give_each_row_once_and_in_order(shares):
    values = [f"{i} " + "x" * (i * i % 700) for i in range(3000)]
    raw = packed(pyarrow.table({"url": values, "text": values}), row_group_size=100)
    parts = [texts(raw, share=(i, shares)) for i in range(shares)]
    assert [value.decode() for part in parts for value in part] == values
    assert max(map(len, parts)) < 3000 / shares + 500


def test_a_large_row_group_needs_little_memory_and_other_columns_are_not_read():
    values = random.Random(0).randbytes(1 << 24).hex()
    texts_column = [values[i : i + 1000] for i in range(0, 1 << 24, 1000)]
    table = pyarrow.table({"other": [values] + [""] * (len(texts_column) - 1), "text": texts_column})
    raw = packed(table, compression="none", use_dictionary=False, data_page_size=1 << 16)
    file, before = Recorder(raw), pyarrow.total_allocated_bytes()
    peak = max(pyarrow.total_allocated_bytes() - before for _ in parquet.texts(file, "a.parquet", "text"))
    assert peak < 8 << 20
    assert file.bytes < len(raw) * 0.4
    assert file.largest <= 1 << 20


class Recorder(io.BytesIO):
    """A file that counts the bytes that are read."""

    bytes = largest = 0

    def read(self, size=-1):
        block = super().read(size)
        self.bytes += len(block)
        self.largest = max(self.largest, len(block))
        return block


def test_files_without_rows_or_bytes():
    assert texts(packed(pyarrow.table({"text": pyarrow.array([], pyarrow.string())}))) == []
    assert "is empty" in complaint(b"")


@pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "brotli", "zstd", "lz4"])
def test_every_codec_is_read(codec):
    assert texts(packed(pyarrow.table({"text": VALUES}), compression=codec)) == BYTES


def test_damage_is_named_and_never_changes_the_text():
    rows = [f"{i} words of a text" for i in range(400)]
    raw = packed(pyarrow.table({"text": rows}), row_group_size=100, write_page_checksum=True)
    expected = [row.encode() for row in rows]
    draw = random.Random(0)
    for place in [*range(12), *(len(raw) - 1 - i for i in range(12)), *draw.sample(range(len(raw)), 300)]:
        for damaged in (raw[:place], raw[:place] + bytes([raw[place] ^ 1 << draw.randrange(8)]) + raw[place + 1 :]):
            with contextlib.suppress(command.UserError):
                assert texts(damaged) == expected, place


def test_row_groups_that_were_lost_are_noticed():
    groups = [types.SimpleNamespace(num_rows=rows) for rows in (100, 100)]
    for total, is_sound in ((200, True), (400, False), (100, False)):
        metadata = types.SimpleNamespace(num_rows=total, num_row_groups=2, row_group=groups.__getitem__)
        with contextlib.nullcontext() if is_sound else pytest.raises(OSError, match="its row groups have 200 rows"):
            assert parquet._groups(types.SimpleNamespace(metadata=metadata), (0, 1)) == [0, 1]


def test_a_summary_of_other_files_is_named():
    with pytest.raises(command.UserError, match="only a summary of the files next to it"):
        list(parquet.texts(io.BytesIO(packed(pyarrow.table({"text": VALUES}))), "folder/_metadata", "text"))


def test_an_encrypted_file_is_named():
    raw = packed(pyarrow.table({"text": VALUES}))
    assert "encrypted" in complaint(b"PARE" + raw[4:-4] + b"PARE")
