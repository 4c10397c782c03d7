"""Tables of every form that people have are read, or refused in a sentence that says how to fix them."""

import gzip
import json

from helpers.glue_files import write
import pyarrow as pa
from pyarrow import parquet
import pytest

from bert_tpu.core import command
from bert_tpu.readers import tabular

ROWS = [{"text": "a", "y": 0}, {"text": "b", "y": 1.5}, {"text": "c", "y": True}, {"text": "d", "y": "e"}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
STREAM = "\n".join(json.dumps(row, indent=1) for row in ROWS)  # as jq prints them


def read(folder, name, content, wanted=("text", "y"), **options):
    write(folder, {name: content})
    return tabular.read(folder / name, wanted, **options)


@pytest.mark.parametrize("name", ["x.json", "x.jsonl"])
@pytest.mark.parametrize(
    "content", [LINES, json.dumps(ROWS), json.dumps(ROWS, indent=1), STREAM, "\ufeff" + LINES, "\n" + LINES]
)
def test_json_lines_and_arrays_are_read_whatever_their_name(tmp_path, name, content):
    table = read(tmp_path, name, content)
    assert table.values == {"text": ["a", "b", "c", "d"], "y": ["0", "1.5", "true", "e"]}
    assert list(table.kinds["y"]) == ["a number", "a truth value", "text"]


def test_objects_of_several_lines_are_named_by_the_line_where_they_begin(tmp_path):
    with pytest.raises(command.UserError, match=r"x.jsonl line 5 has no text under 'text'"):
        read(tmp_path, "x.jsonl", '{\n "text": "a",\n "y": 0\n}\n{\n "text": null,\n "y": 0\n}\n')


def test_a_key_that_the_first_object_lacks_is_a_column(tmp_path):
    rows = [{"text": "a"}, {"y": 0, "text": "b"}, {"text": "c", "y": None}, {"text": "d", "y": float("nan")}]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    assert read(tmp_path, "x.jsonl", content, nullable=("y",)).values["y"] == ["", "0", "", ""]
    with pytest.raises(command.UserError, match="line 1 has no text under 'y'"):
        read(tmp_path, "x.jsonl", content)


def test_parquet_gives_the_rows_of_json(tmp_path):
    columns = {"text": pa.array(["a", "b"]).dictionary_encode(), "y": pa.array([1, None]), "other": [[1], [2]]}
    parquet.write_table(pa.table(columns), tmp_path / "x.parquet")
    table = tabular.read(tmp_path / "x.parquet", ("text", "y"), nullable=("y",))
    assert table.values == {"text": ["a", "b"], "y": ["1", ""]}
    assert table.header == ("text", "y", "other")
    with pytest.raises(command.UserError, match=r"x.parquet row 1 has neither .* under 'other' but a list"):
        tabular.read(tmp_path / "x.parquet", ("other",))
    with pytest.raises(command.UserError, match=r"x.parquet row 2 has no text under 'y'"):
        tabular.read(tmp_path / "x.parquet", ("y",))


def test_a_parquet_file_cut_anywhere_is_refused_by_name(tmp_path):
    parquet.write_table(pa.table({"text": ["a é", "b"], "y": [0, 1]}), tmp_path / "x.parquet")
    raw = (tmp_path / "x.parquet").read_bytes()
    for length in range(0, len(raw), 7):
        with pytest.raises(command.UserError, match=r"x\.parquet is damaged"):
            read(tmp_path, "x.parquet", raw[:length])


def test_the_class_names_of_a_hugging_face_export_are_read(tmp_path):
    features = {"y": {"names": ["neg", "pos"], "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}
    schema = pa.schema(
        {"text": pa.string(), "y": pa.int64()}, {"huggingface": json.dumps({"info": {"features": features}})}
    )
    for values, expected in (([1, 0], ["pos", "neg"]), ([-1, None], ["", ""])):
        parquet.write_table(pa.table({"text": ["a", "b"], "y": values}, schema), tmp_path / "x.parquet")
        assert tabular.read(tmp_path / "x.parquet", ("y",), nullable=("y",)).values["y"] == expected
    parquet.write_table(pa.table({"text": ["a", "b"], "y": [0, 2]}, schema), tmp_path / "x.parquet")
    with pytest.raises(command.UserError, match="row 2 has the class 2 of 2"):
        tabular.read(tmp_path / "x.parquet", ("y",))


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("x.csv", "text,y,text\n1,0,a\n", "has 2 columns 'text'"),
        ("x.tsv", "text\ty\ty\na\t0\t0\n", "has 2 columns 'y'"),
        ("x.jsonl", '{"text": "a", "y": 0, "text": "b"}\n', "line 1 has two keys 'text'"),
        ("x.json", '[{"text": "a", "y": 0, "text": "b"}]\n', "an object with two keys 'text'"),
        ("x.csv", '\ufefftext;y\r\n"a;b";0\r\n', "is divided by ';' where .csv has ','; save it with ','$"),
        ("x.tsv", '"text"\t"y"\n"he said \\"hi\\""\t"0"\n', "has its cells in quotes, .* in R by write.csv"),
        ("x.csv", "Titel;Wert\na;0\n", "is divided by ';'"),
        ("x.csv", "text\ty\na\t0\n", "is divided by tabs where .csv has ','; save it with ',', or name it .tsv"),
        ("x.tsv", '"text","y"\n"a",0\n', "is divided by ',' where .tsv has tabs; save it with tabs, or name it .csv"),
        ("x.csv", "sep=;\ntext;y\n", "begins with Excel's line 'sep=;'; take it out"),
        ("x.tsv", "text\ty\ra\t0\r", "ends its lines by CR alone"),
        ("x.jsonl", LINES.replace("\n", "\r"), "ends its lines by CR alone"),
        ("x.csv", "text,y\na,0\nb\0,1\n", "line 3 has a NUL character"),
        ("x.csv", b"text,y\n\xe9,0\n", "line 2 is not UTF-8; convert it, for example by iconv"),
        ("x.csv", gzip.compress(b"text,y\na,0\n", mtime=0), "is compressed by gzip; decompress it"),
        ("x.csv", b"PK\x03\x04...", "is a ZIP archive or an Excel file"),
        ("x.csv", LINES, "is JSON, not .csv; name it .jsonl"),
        ("x.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer"),
        ("x.jsonl", "<!DOCTYPE html>\n<html>", "is a web page"),
        ("x.jsonl", STREAM[:-1], "line 1 is not a JSON object"),
        ("x.csv.gz", b"", "is none of .*; decompress or convert it"),
        ("x.txt", "a\tb\n".encode("utf-16"), r"x.txt is UTF-16, .* -t UTF-8; tables are \.tsv, \.csv"),
        ("x.xlsx", b"PK\x03\x04", "x.xlsx is a ZIP archive or an Excel file; .* save the sheet as CSV UTF-8"),
        ("x.csv", 'text,y\na,0\n"b,1\nc,0\nd,1\n', "line 3 begins a row with a quote that is never closed"),
        ("x.tsv", "text\ty\na\t0\ntext\ty\nb\t1\n", "line 3 has the names of the columns again"),
        ("x.csv", "text,y\na,0\n\ufefftext,y\nb,1\n", "line 3 has the names of the columns again"),
        ("x.tsv", 'text\ty\n"a\tb"\t0\n', "line 2 does not have the 2 columns .* or save the file as CSV"),
        ("x.jsonl", "{'text': 'a', 'y': 0}\n", "line 1 is not a JSON object .Expecting property name"),
        ("x.tsv", "text\na\n\nb\n", "line 3 is blank, either an empty text or not a row"),
        ("x.csv", "text\na\n\nb\n", "line 3 is blank"),
        ("x.json", json.dumps({"text": {"0": "a"}, "y": {"0": 1}}), "is one JSON object, not rows"),
        ("x.json", json.dumps({"version": 1, "data": ROWS}, indent=1), "is one JSON object, not rows"),
        ("x.json", json.dumps({"data": ROWS}), "is one JSON object, not rows"),
        ("x.json", json.dumps(ROWS, indent=1)[:50], "line 7 is not JSON .*; correct it, or fetch"),
        ("x.jsonl", '["a", 0]\n["b", 1]\n', "line 1 is not a JSON object; write one object a line"),
        ("x.json", '[["a", 0]]', "row 1 is not a JSON object"),
        ("x.json", "[]", "has no rows"),
        ("x.jsonl", LINES[:-5], "line 4 is not a JSON object"),
        ("x.parquet", b"PAR1", "x.parquet is damaged or not a Parquet file"),
    ],
)  # fmt: skip
def test_odd_files_are_refused_with_the_remedy(tmp_path, name, content, complaint):
    with pytest.raises(command.UserError, match=complaint):
        read(tmp_path, name, content)


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("Text\ty", r"has no column 'text' but 'Text', 'y'; rename 'Text'"),
        (" text\ty", "rename ' text'"),
        ('"text"\ty', "rename '\"text\"'"),
        ("sentence\ty", "rename a column"),
        ("b\t1", "looks like a row: add a line with the names"),
        ("x\tpos", "looks like a row: add a line with the names"),
    ],
)
def test_a_missing_name_is_explained(tmp_path, header, complaint):
    table = read(tmp_path, "x.tsv", f"{header}\na\tpos\nb\tneg\n")
    with pytest.raises(command.UserError, match=complaint):
        table.column("text")


def test_rows_of_several_lines_are_counted(tmp_path):
    """An unclosed quote can swallow lines and still be CSV."""
    table = read(tmp_path, "x.csv", 'text,y\na,0\n"She said: stop.,1\nI will not.",1\nb,0\n')
    assert table.values["y"] == ["0", "1", "0"]
    assert table.notes == (
        f"{tmp_path}/x.csv: 1 row with line breaks within quotes, the first from line 3; the longest has 2 lines",
    )


def test_texts_that_a_program_has_quoted_are_counted(tmp_path):
    table = read(tmp_path, "x.tsv", 'text\ty\n"say ""hi"" now"\t0\n"Yes", she said: "no"\t0\n"b"\t1\n')
    (note,) = table.notes
    assert "1 row with a text in quotes (line 2 first), which TSV keeps as they are" in note
    excel = 'text\ty\na\t0\n"b, c"\t0\n"d"\t0\n"e, f"\t1\n'  # it quotes cells with a comma
    (note,) = read(tmp_path, "x.tsv", excel).notes
    assert "2 rows with a text in quotes (line 3 first)" in note
    assert not read(tmp_path, "x.tsv", excel + "g, h\t0\n").notes  # so these quotes are the authors'
    (note,) = read(tmp_path, "x.csv", 'y,text\n0, "a b"\n1, c\n').notes
    assert note.endswith("1 row with a space before a quote (line 2 first), so that the quotes are text; "
                         "take out the spaces after the commas")  # fmt: skip


def test_blank_lines_at_the_end_and_long_cells_are_harmless(tmp_path):
    assert read(tmp_path, "x.tsv", "text\na\n\n\n", ("text",)).values == {"text": ["a"]}
    assert read(tmp_path, "x.tsv", "text\ty\r\r\na\t0\r\r\n").values == {"text": ["a"], "y": ["0"]}
    assert read(tmp_path, "x.tsv", f"text\ty\r\n{'a' * 200_000}\t0\r\n").values["y"] == ["0"]
