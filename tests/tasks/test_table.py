"""A user's files become a task in any format, and errors in them are reported with their line."""

import csv
import json
import math

from helpers.glue_files import read, write
from helpers.token_row_cases import VOCABULARY
from hypothesis import HealthCheck, given, settings, strategies
import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pytest

from bert_tpu.core import command
from bert_tpu.data import token_rows
from bert_tpu.tasks import table

ROWS = [("a b", "c", "good"), ('d "e"', "", "bad"), ("f\u2028g\u00a0h", "i", "10"), ("j", ",", "good")]


def load(folder, *, head="classify", text_pair="two", **names):
    paths = {split: str(folder / names[split]) if split in names else "" for split in ("train", "validation", "test")}
    return table.load(
        **paths, text="one", text_pair=text_pair, label="y", head=head, max_length=16, vocabulary=VOCABULARY
    )


def spell(path, rows, header=("one", "two", "y")):
    """Writes rows in the format of the path's name, with libraries that users use."""
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows))
    elif path.suffix == ".json":
        path.write_text(json.dumps([dict(zip(header, row, strict=True)) for row in rows], indent=1))
    elif path.suffix == ".parquet":
        columns = zip(*rows, strict=True)
        parquet.write_table(pa.table(dict(zip(header, map(list, columns), strict=True))), path)
    elif path.suffix == ".csv":
        with open(path, "w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
    else:
        path.write_text("".join("\t".join(row) + "\n" for row in (header, *rows)))


@pytest.mark.parametrize("suffix", [".tsv", ".csv", ".jsonl", ".json", ".parquet"])
def test_every_format_gives_the_same_task(tmp_path, suffix):
    spell(tmp_path / f"train{suffix}", ROWS)
    spell(tmp_path / f"dev{suffix}", ROWS[2:0:-1])
    spell(tmp_path / f"test{suffix}", [row[:2] for row in ROWS], ("one", "two"))
    names = dict(train=f"train{suffix}", validation=f"dev{suffix}", test=f"test{suffix}")
    task = load(tmp_path, **names)
    assert (task.labels, task.eval_splits) == (("10", "bad", "good"), ("validation",))
    texts = ["a b|c", "d [UNK] e [UNK]|", "f g h|i", "j|[UNK]"]
    splits = read(task)
    assert splits["train"] == list(zip(texts, [2, 1, 0, 2], strict=True))
    assert splits["validation"] == list(zip(texts[2:0:-1], [0, 1], strict=True))
    assert splits["test"] == [(text, token_rows.IGNORED) for text in texts]


def test_a_csv_s_quoted_line_breaks_are_text(tmp_path):
    write(tmp_path, {"train.csv": 'y,one\r\nno,"a\r\n""b"", c"\r\nyes,d\r\n'})
    assert read(load(tmp_path, train="train.csv", text_pair=""))["train"] == [
        ("a [UNK] b [UNK] [UNK] c", 0),
        ("d", 1),
    ]


def test_a_csv_s_text_may_be_long(tmp_path):
    long = "a, " * 100_000
    write(tmp_path, {"train.csv": f'one,y\n"{long}",0\nb,1\n'})
    task = load(tmp_path, train="train.csv", text_pair="")
    assert task.splits["train"].lengths.tolist() == [16, 3]


def test_regression_takes_numbers_and_judges_by_correlations(tmp_path):
    write(tmp_path, {"train.jsonl": '{"one": "a", "y": 1}\n\n{"one": "b", "y": "-2.5"}\n{"y": 3e2, "one": 7}\n'})
    task = load(tmp_path, head="regress", text_pair="", train="train.jsonl", validation="train.jsonl")
    assert task.labels == ("y",)
    assert task.splits["train"].labels.tolist() == [1, -2.5, 300]
    assert task.splits["train"].labels.dtype == np.float32
    outputs = np.array([[0], [-3.5], [299]], np.float32)
    assert task.score("validation", outputs) == pytest.approx({"pearson": 1, "spearman": 1})
    task.write("validation", outputs, tmp_path / "out")
    assert (tmp_path / "out" / "validation.tsv").read_text() == "index\tprediction\n0\t0\n1\t-3.5\n2\t299\n"


def test_a_labelled_test_file_is_judged_too(tmp_path):
    spell(tmp_path / "train.tsv", ROWS)
    task = load(tmp_path, train="train.tsv", validation="train.tsv", test="train.tsv")
    assert task.eval_splits == ("validation", "test")
    outputs = np.eye(3, dtype=np.float32)[[2, 1, 1, 1]]
    # F1 of 10: no hit; of bad: precision 1/3, recall 1; of good: precision 1, recall 1/2.
    assert task.score("test", outputs) == pytest.approx({"accuracy": 2 / 4, "macro_f1": (0 + 1 / 2 + 2 / 3) / 3})
    drawn = task.bootstrap("test", np.stack([outputs, outputs]))["accuracy"]
    assert set(drawn.ravel()) == {0, 0.25, 0.5, 0.75, 1}
    np.testing.assert_array_equal(*drawn.T)


def test_predictions_hold_the_probability_of_each_class(tmp_path):
    spell(tmp_path / "train.tsv", ROWS)
    task = load(tmp_path, train="train.tsv", test="train.tsv")
    task.write("test", np.log([[0.2, 0.5, 0.3], [1, 1e-9, 1e-9]]).astype(np.float32) + 1000, tmp_path)
    lines = [line.split("\t") for line in (tmp_path / "test.tsv").read_text().splitlines()]
    assert lines[0] == ["index", "prediction", "probability of 10", "probability of bad", "probability of good"]
    assert [line[:2] for line in lines[1:]] == [["0", "bad"], ["1", "10"]]
    np.testing.assert_allclose([[float(x) for x in line[2:]] for line in lines[1:]], [[0.2, 0.5, 0.3], [1, 0, 0]], 1e-3)


GOOD = "one\ttwo\ty\na\tb\t0\nc\td\t1\n"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "bad.tsv",
            "one\ttwo\ty\na\tb\t2\n",
            "bad.tsv line 2 has the label '2', which is not a class of the train file",
        ),
        ("bad.tsv", "one\ttwo\ty\na\tb\t0\na\tb\t\n", "bad.tsv line 3 has no label"),
        ("bad.tsv", "one\ttwo\na\tb\n", "bad.tsv has no column 'y' but 'one', 'two'"),
        ("bad.tsv", "one\ty\na\t0\n", "bad.tsv has no column 'two'"),
        ("bad.tsv", "one\ttwo\ty\n\na\tb\n", "bad.tsv line 3 does not have the 3 columns"),
        ("bad.tsv", "one\ttwo\ty\na\t\tb\t0\n", "bad.tsv line 2 does not have the 3 columns"),
        ("bad.tsv", "", "bad.tsv is empty"),
        ("bad.tsv", "one\ttwo\ty\n\n", "bad.tsv has no rows"),
        ("bad.tsv", GOOD.encode("utf-16"), "bad.tsv is UTF-16, not UTF-8"),
        ("bad.csv", 'one,two,y\na,"b"c,0\n', "bad.csv line 2 is not CSV"),
        ("bad.csv", 'one,two,y\na,"b,0\nc,"d",0\n', ", in the row that begins in line 2; correct its quotes"),
        ("bad.csv", 'one,two,y\na,b,0\na,"b\na,b,0', "bad.csv line 3 begins a row with a quote that is never closed"),
        ("bad.jsonl", '{"one": "a", "two": "b", "y": 0}\n[1]\n', "bad.jsonl line 2 is not a JSON object"),
        ("bad.jsonl", '{"one": "a", "two": "b", "y": 0}\n{"one": "a", "y": 0}\n', "line 2 has no text under 'two'"),
        ("bad.jsonl", '{"one": null, "two": "b", "y": 0}\n', "line 1 has no text under 'one'"),
        ("bad.jsonl", '{"one": ["a"], "two": "b", "y": 0}\n', "line 1 has neither .* under 'one' but a list"),
        ("bad.xlsx", "", r"bad.xlsx is none of \.tsv, \.csv, \.jsonl"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, name, content, complaint):
    write(tmp_path, {"train.tsv": GOOD, name: content})
    with pytest.raises(command.UserError, match=complaint):
        load(tmp_path, train="train.tsv", validation=name)


@pytest.mark.parametrize(
    ("names", "content", "complaint"),
    [
        (dict(head="span"), GOOD, "head 'span' is not one of classify, regress"),
        (dict(head="regress"), "one\ttwo\ty\na\tb\tx\n", "line 2 has the label 'x', which is not a number"),
        (dict(head="regress"), "one\ttwo\ty\na\tb\t1e39\n", "line 2 has the label '1e39', which is not a number"),
        (dict(), "one\ttwo\ty\na\tb\t0\n", "fewer than two labels under 'y'"),
        (dict(), "one\ttwo\ty\na\tb\t0\na\tb\t0.0\n", "fewer than two labels"),
        (dict(text_pair="one"), GOOD, "name the columns 'one', 'one', 'y'; name different ones"),
    ],
)
def test_a_bad_train_file_is_named(tmp_path, names, content, complaint):
    write(tmp_path, {"train.tsv": content})
    with pytest.raises(command.UserError, match=complaint):
        load(tmp_path, train="train.tsv", **names)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(command.UserError, match="needs a train file"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.tsv"):
        load(tmp_path, train="none.tsv")
    with pytest.raises(command.UserError, match="is a folder; name a file in it"):
        load(tmp_path.parent, train=tmp_path.name)
    write(tmp_path, {"train.csv": 'one,two,y\na,b,"x\ny"\na,b,z\n'})
    with pytest.raises(command.UserError, match="a label with a tab or line break"):
        load(tmp_path, train="train.csv")


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ([("7", "x", "a"), ("8", "y", "b")], "a number under 'one'; is it the column of the texts"),
        ([("a b", "x", "a"), ("a b", "y", "b")], "the same text under 'one'; is it the column of the texts"),
    ],
)
def test_a_column_that_is_probably_not_the_texts_is_reported(tmp_path, rows, note):
    spell(tmp_path / "train.csv", rows)
    assert note in load(tmp_path, train="train.csv").notes[0]


def test_columns_that_are_not_read_are_listed_and_a_second_text_is_warned_of(tmp_path):
    rows = [("a b", "x y", "1", "q"), ("c d", "z", "0", "r")]
    for second, is_warned in (("text_pair", True), ("Sentence2", True), ("hypothesis", True), ("source", False)):
        spell(tmp_path / "train.csv", rows, ("one", second, "y", "id"))
        notes = load(tmp_path, train="train.csv", text_pair="").notes
        assert f"columns not read: {second}, id" in notes
        warning = f"train has a column {second!r} and data.text_pair is empty"
        assert any(warning in note for note in notes) == is_warned
        if is_warned:
            notes = load(tmp_path, train="train.csv", text_pair=second).notes
            assert "columns not read: id" in notes
            assert not any(warning in note for note in notes)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(strategies.binary(), strategies.sampled_from([".tsv", ".csv", ".jsonl", ".json"]), strategies.booleans())
def test_any_bytes_are_rows_or_a_complaint(tmp_path, raw, suffix, is_begun):
    start = {
        ".tsv": GOOD,
        ".csv": "one,two,y\na,b,0\n",
        ".jsonl": '{"one": "a", "two": "b", "y": "0"}\n',
        ".json": "[{",
    }[suffix]
    write(tmp_path, {"train.tsv": GOOD, f"test{suffix}": (start.encode() if is_begun else b"") + raw})
    try:
        task = load(tmp_path, train="train.tsv", test=f"test{suffix}")
    except command.UserError:
        return
    assert len(task.splits["test"].labels) == len(task.splits["test"].lengths) > 0


@given(strategies.recursive(strategies.none() | strategies.floats() | strategies.text(), strategies.lists))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_json_is_a_row_or_a_complaint(tmp_path, value):
    write(tmp_path, {"train.tsv": GOOD, "test.jsonl": json.dumps({"one": value, "two": "\ud800"})})
    try:
        task = load(tmp_path, train="train.tsv", test="test.jsonl")
    except command.UserError:
        assert value is None or isinstance(value, list) or not math.isfinite(value)
    else:
        assert task.splits["test"].labels.tolist() == [token_rows.IGNORED]


def test_odd_texts_of_both_columns_are_counted_and_equal_columns_named(tmp_path):
    spell(tmp_path / "train.csv", [("a", "b'c'", "x"), ("None", "d", "y")])
    odd = [note for note in load(tmp_path, train="train.csv").notes if note.startswith("warning")]
    assert [note.partition(", ")[0] for note in odd] == [
        f"warning: {tmp_path}/train.csv: 1 text of nothing but None",
        f"warning: {tmp_path}/train.csv: 1 text in the form of a list",
    ]
    spell(tmp_path / "train.csv", [("a", "a", "x"), ("b", "b", "y")])
    assert "same text twice" in load(tmp_path, train="train.csv").notes[0]
    spell(tmp_path / "train.csv", [("https://x.org/a", "a", "x"), ("pos/7_1.txt", "b", "y")])
    assert "an address or a path under 'one'" in load(tmp_path, train="train.csv").notes[0]
    spell(tmp_path / "train.csv", [("a/" * 20_000, "a", "x"), ("b/b." * 20_000, "b", "y")])
    assert not [note for note in load(tmp_path, train="train.csv").notes if "address" in note]
