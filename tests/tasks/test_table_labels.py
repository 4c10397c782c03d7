"""Labels that are one class are read as one, labels that are none are not a class, and everything odd is said."""

import json
from pathlib import Path
import re

from helpers.glue_files import write
from helpers.token_row_cases import LETTERS, VOCABULARY
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.tasks import table


def text(number):
    return " ".join(LETTERS[int(digit)] for digit in str(number))


def notes(task):
    return [note for note in task.notes if "nothing is scored" not in note]


def load(folder, *, head="classify", **labels):
    """The task of split -> labels: JSON lines of a list, a TSV of a string with a label a letter or word."""
    paths = dict.fromkeys(("train", "validation", "test"), "")
    for split, column in labels.items():
        paths[split] = str(folder / f"{split}{'.tsv' if isinstance(column, str) else '.jsonl'}")
        if isinstance(column, str):
            rows = enumerate(column.split(","))
            content = "text\tlabel\n" + "".join(f"{text(i)}\t{label}\n" for i, label in rows)
        else:
            rows = enumerate(column)
            objects = [{"text": text(i)} | ({} if label is ... else {"label": label}) for i, label in rows]
            content = "".join(f"{json.dumps(each)}\n" for each in objects)
        write(folder, {Path(paths[split]).name: content})
    return table.load(
        **paths, text="text", text_pair="", label="label", head=head, max_length=16, vocabulary=VOCABULARY
    )


@pytest.mark.parametrize(
    ("labels", "classes", "ids", "note"),
    [
        ("neg,pos ,pos,\u00a0neg", ("neg", "pos"), [0, 1, 1, 0], "2 labels with spaces .*line 3 first: 'pos '"),
        ([0, 0.0, 1], ("0", "1"), [0, 0, 1], r"'0' \(1 row, line 1 first\) and '0.0' .* are one class, '0'"),
        (["0", 0, 1], ("0", "1"), [0, 0, 1], None),
        ("1.0,0.0,1.0", ("0.0", "1.0"), [1, 0, 1], None),
        ("10,9,09,-2", ("-2", "9", "10"), [2, 1, 1, 0], "warning: .*'9' .* and '09' .* are one class, .9.; if"),
        ("1,\u0661,2", ("1", "2"), [0, 0, 1], "'1' .* and '\u0661' .* are one class"),
        ("-1,0,1", ("-1", "0", "1"), [0, 1, 2], "the label -1 is a class"),
        ("\uff11,1,0", ("0", "1"), [1, 1, 0], "are one class, '1'"),
        ("10,b,a", ("10", "a", "b"), [0, 2, 1], None),
        ([True, False], ("false", "true"), [1, 0], None),
        ("A-,A,A+", ("A", "A+", "A-"), [2, 0, 1], None),
    ],
)  # fmt: skip
def test_classes_are_values_not_spellings(tmp_path, labels, classes, ids, note):
    task = load(tmp_path, train=labels)
    assert task.labels == classes
    assert task.splits["train"].labels.tolist() == ids
    assert task.splits["train"].labels.dtype == np.int32
    assert re.search(note, notes(task)[0]) if note else not notes(task)


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ("KIZGIN,k\u0131zg\u0131n,b", "different ways, 'KIZGIN'"),
        ("\u0130yi,iyi,b", "different ways, 'iyi'"),
        ("don't,don\u2019t,b", "different ways, \"don't\""),
        ("pos,\u0440\u043es,b", "different ways, 'pos'"),
        ("neg,Neg,pos", r"different ways, 'Neg' \(1 row, line 3 first\) and 'neg' \(1 row, line 2 first\)"),
        ("caf\u00e9,cafe\u0301,b", "in different ways"),
        ('pos,"pos",neg', "in different ways"),
        ("not entailment,not_entailment,b", "in different ways"),
        ("a b,a  b,c", "in different ways"),
        ("a\u200b,a,c", "in different ways"),
        ("0,0.0,b", "in different ways"),
        ([True, "True", False], "mixes kinds of labels, a truth value in line 1 and text in line 2"),
        ([1, True, 0], "mixes kinds of labels, a number in line 1 and a truth value in line 2"),
        (["a", 1], "mixes kinds of labels, text in line 1 and a number in line 2"),
        ("a,b,,b,", r"line 4 has no label \(''\), as 2 of 5 rows"),
        *[(f"a,{mark},b", "line 3 has no label") for mark in ("?", "NaN", "N/A", "NA", "null")],
        (["a", None, "b"], "line 2 has no label"),
        (["a", ..., "b"], "line 2 has no label"),
        ([1.0, float("nan"), 0.0], "line 2 has no label"),
        ([0, 1, -1, 2], "line 3 has the label -1, as 1 of 4 rows, which means no label where the classes are 0 to 2"),
        ([["a"], "b"], "neither text nor a number under 'label' but a list"),
    ],
)  # fmt: skip
def test_labels_that_would_be_other_classes_are_refused(tmp_path, labels, complaint):
    with pytest.raises(command.UserError, match=complaint):
        load(tmp_path, train=labels)


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("labels", ["-1,-1", ",", [None, None], [-1, -1], ["?", ""], [..., None]])
@pytest.mark.parametrize(("head", "train"), [("classify", "a,b"), ("classify", [0, 1, 2]), ("regress", [0.5, 1])])
def test_a_split_without_any_label_is_predicted_only(tmp_path, split, labels, head, train):
    task = load(tmp_path, head=head, train=train, **{split: labels})
    assert task.eval_splits == ()
    assert task.splits[split].labels.tolist() == [-1, -1]
    assert "predicted only" in task.notes[-2]
    assert "nothing is scored" in task.notes[-1]


def test_a_split_with_some_labels_is_refused(tmp_path):
    with pytest.raises(command.UserError, match=r"line 2 has no label .*, as 1 of 3 rows"):
        load(tmp_path, train="a,b", test=["a", ..., "b"])
    with pytest.raises(command.UserError, match=r"line 1 has no label .*, as 1 of 3 rows"):
        load(tmp_path, train="a,b", test=[..., "a", "b"])
    with pytest.raises(command.UserError, match=r"line 3 has no label .'-1'., as 1 of 2 rows"):
        load(tmp_path, train="0,1,2", validation="0,-1")
    assert load(tmp_path, head="regress", train="0,1", validation="0,-1").splits["validation"].labels.tolist() == [
        0,
        -1,
    ]
    assert load(tmp_path, train="-1,1", test="-1,-1").eval_splits == ("test",)


def test_a_class_that_train_does_not_have_is_missed_and_said(tmp_path):
    task = load(tmp_path, train="a,b,b", validation="b,b,a,c,d,a,a")
    assert (
        "2 rows of 2 classes that train does not have, so that every prediction is wrong there (line 5 "
        in task.notes[0]
    )
    outputs = np.eye(2, dtype=np.float32)[[1, 1, 0, 0, 1, 0, 0]]
    assert task.score("validation", outputs)["accuracy"] == pytest.approx(5 / 7)
    drawn = task.bootstrap("validation", outputs[None])
    assert drawn["accuracy"].mean() == pytest.approx(5 / 7, abs=0.02)
    assert set(drawn) == {"accuracy", "macro_f1"}


@pytest.mark.parametrize(
    ("train", "validation", "complaint"),
    [
        ("a,b", "B,a", "line 2 has the label 'B', which train writes 'b'"),
        ([True, False], "True,False", "line 2 has the label 'True', which train writes 'true'"),
        ("0,1", "neg,pos", "label 'neg', which is not a class of the train file, as 2 of 2 rows.*'0', '1'"),
    ],
)  # fmt: skip
def test_a_split_with_other_spellings_is_refused(tmp_path, train, validation, complaint):
    with pytest.raises(command.UserError, match=complaint):
        load(tmp_path, train=train, validation=validation)


def test_numbers_of_a_split_may_be_written_otherwise(tmp_path):
    assert load(tmp_path, train="0,1", validation=[1.0, 0, "1"]).splits["validation"].labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        ("1,good", "line 3 has the label 'good', which is not a number; .*pairs.py:classify"),
        ("1,2,3", None),
        ([1.5, "2,5"], "'2,5', which is not a number; write a decimal point"),
        (["1,200", 1], r"'1,200', which is not a number; write 1\.200 if the comma is a decimal one, or 1200 if not"),
        (["1,234,567", 1], "'1,234,567', which is not a number; write 1234567"),
        (["0,125", 1], "; write a decimal point"),
        (["1", "-"], "line 2 has no label .'-'., as 1 of 2"),
        ("1,1_0", "'1_0', which is not a number"),
        ("1,", "line 3 has no label"),
        ([True, 1], "'true', which is not a number"),
        ("1,1e39", "'1e39', which is not a number"),
    ],
)
def test_scores_are_numbers(tmp_path, labels, complaint):
    if complaint is None:
        assert load(tmp_path, head="regress", train=labels).splits["train"].labels.tolist() == [1, 2, 3]
    else:
        with pytest.raises(command.UserError, match=complaint):
            load(tmp_path, head="regress", train=labels)


def test_a_dash_is_no_label_unless_there_is_a_plus(tmp_path):
    with pytest.raises(command.UserError, match=r"line 4 has no label .'-'., as 1 of 3 rows; take them out, or give"):
        load(tmp_path, train="a,b,-")
    with pytest.raises(command.UserError, match=r"line 3 has no label .'-'., as 1 of 2 rows; .*another name"):
        load(tmp_path, train="a,b", validation="a,-")
    assert load(tmp_path, train="a,b", test="-,-").eval_splits == ()
    assert load(tmp_path, train="+,-,0", validation="-,-").splits["validation"].labels.tolist() == [1, 1]


def test_one_number_everywhere_is_said(tmp_path):
    (note,) = notes(load(tmp_path, head="regress", train="3,3.0,3"))
    assert note == "warning: all rows of train have the number 3 under 'label'; nothing to learn"


def test_classes_that_are_probably_something_else_are_said(tmp_path):
    (note,) = notes(load(tmp_path, train=[i / 10 for i in range(40)]))
    assert "40 different numbers, each a class; configs/pairs.py:regress learns numbers" in note
    (note,) = notes(load(tmp_path, train=[f"text {i}" for i in range(40)]))
    assert "40 classes in 40 rows; is it the column of the labels?" in note
    (note,) = notes(load(tmp_path, train=["good", "bad"] * 10 + ["ba"]))
    assert note == "warning: 1 of 3 classes have one row in train, such as 'ba'"
