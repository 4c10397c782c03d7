"""Labels that are one class are read as one, labels that are none are not a class, and everything odd is said."""

import json
from pathlib import Path
import re

from helpers.glue_files import write
from helpers.token_row_cases import LETTERS, VOCABULARY
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.tasks import label_doubts, misspellings, table


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
        ("pos,pos.,neg", r"different ways, 'pos'"),
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
        ("a,b,,b,", "line 4 has no label, as 2 of 5 rows; label them, or take them out$"),
        *[(f"a,{mark},b", "line 3 has no label") for mark in ("?", "NaN", "N/A", "NA", "null", "#REF!")],
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
    with pytest.raises(command.UserError, match=r"line 2 has no label, as 1 of 3 rows"):
        load(tmp_path, train="a,b", test=["a", ..., "b"])
    with pytest.raises(command.UserError, match=r"line 1 has no label, as 1 of 3 rows"):
        load(tmp_path, train="a,b", test=[..., "a", "b"])
    with pytest.raises(command.UserError, match=r"line 3 has no label .'-1'., as 1 of 2 rows"):
        load(tmp_path, train="0,1,2", validation="0,-1")
    assert load(tmp_path, head="regress", train="0,1", validation="0,-1").splits["validation"].labels.tolist() == [
        0,
        -1,
    ]
    assert load(tmp_path, train="-1,1", test="-1,-1").eval_splits == ("test",)


def test_a_class_that_train_does_not_have_is_missed_and_reported(tmp_path):
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
        ("1,good", "line 3 has the label 'good', which is not a number; .*--config pairs:classify"),
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
    with pytest.raises(command.UserError, match=r"line 4 has no label .'-'., as 1 of 3 rows; label them, give that"):
        load(tmp_path, train="a,b,-")
    with pytest.raises(command.UserError, match=r"line 3 has no label .'-'., as 1 of 2 rows; .*another name"):
        load(tmp_path, train="a,b", validation="a,-")
    assert load(tmp_path, train="a,b", test="-,-").eval_splits == ()
    assert load(tmp_path, train="+,-,0", validation="-,-").splits["validation"].labels.tolist() == [1, 1]


def test_one_number_everywhere_is_reported(tmp_path):
    (note,) = notes(load(tmp_path, head="regress", train="3,3.0,3"))
    assert note == "warning: all rows of train have the number 3 under 'label'; nothing to learn"


def test_classes_that_are_probably_something_else_are_reported(tmp_path):
    (note,) = notes(load(tmp_path, train=[i / 10 for i in range(40)]))
    assert "40 different numbers, each a class; --config pairs:regress learns numbers" in note
    (note,) = notes(load(tmp_path, train=[f"text {i}" for i in range(40)]))
    assert "40 classes in 40 rows; is it the column of the labels?" in note


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        (["good", "bad"] * 10 + ["ba"], "warning: 1 of 3 classes has one row in train, such as 'ba'"),
        (["1", "1.5", "2"], "has numbers with fractions such as 1.5, each a class; --config pairs:regress"),
        (["0,5", "1,0"], "has numbers with fractions such as 0,5"),
        (["0.0", "1.0"], None),
        (list(range(20)) * 2, "^'label' has 20 different numbers, each a class; --config pairs:regress"),
        (list(range(40)), "warning: .* 40 different numbers in 40 rows, .*column of the labels.*:regress"),
        (["10%", "20 %"], "has amounts such as '10%', each a class; written as a number, --config pairs:regress"),
        (["4/5", "3/5"], "has amounts such as '3/5'"),
        (["a", "b", "a|b", "b,a", "A+"], "warning: 2 rows with several labels, such as 'a|b'"),
        (["a", "b", "['a', 'b']"], "warning: 1 row with a list as label, such as"),
        (["a (0.9)", "a (0.8)", "b (0.9)", "b (0.8)"], "end with a number, such as 'a .0.8.', and each spelling"),
        (["a: 93%", "a: 7%"], "end with a number"),
        (["grade 1", "grade 2", "v1.0"], None),
        (["b'a'", "b"], "the label b'a' is in the form of Python's bytes .1 row."),
        (["n\u00e9", "ne", "b"], "the labels 'ne' and 'n\u00e9' differ in accents alone"),
        (["$1.50", "$3"], "has amounts such as '.3'"),
        (["3-Apr", "9-12"], "'3-Apr' looks as if Excel had made a date of it .1 row."),
        (["None", "for", "None"], "^the label 'None' is a class like any other .2 rows."),
        (
            ["positive"] * 10 + ["postive", "other"],
            "'postive' .1 row. is nearly 'positive' .10 rows.; write",
        ),
    ],
)
def test_classes_that_are_not_one_name_each_are_reported(tmp_path, labels, note):
    found = notes(load(tmp_path, train=labels))
    assert any(re.search(note, each) for each in found) if note else not found


def test_classes_that_begin_with_another_number_are_refused(tmp_path):
    with pytest.raises(command.UserError, match="numbers the classes from 0 to 2, but train from 1 to 3; write"):
        load(tmp_path, train="1,2,3", validation="0,1,2,2")
    with pytest.raises(command.UserError, match="numbers the classes from 1 to 2, but train from 0 to 1; write"):
        load(tmp_path, train=[0, 1], test=[1, 2])
    for validation in ("1,2,4,1", "1,2,4,1.5,1", "1,2,a", "2,3,4,5,3,2"):
        assert "train does not have" in notes(load(tmp_path, train="1,2,3", validation=validation))[0]
    assert not notes(load(tmp_path, train="1,2,3", validation="2,3"))


def test_a_misspelling_is_one_letter_away_from_a_frequent_name():
    counts = {"negative": 300, "positive": 250, "location": 9}
    wrong = {"negtaive": 1, "negative1": 1, "negativ": 3, "positives": 3, "Xositive": 1, "locatio": 1, "negatve": 4}
    found = dict(misspellings.find(counts | wrong))
    assert found == {"negtaive": "negative", "negativ": "negative", "Xositive": "positive"}
    assert not list(misspellings.find({"LOC": 10, "L": 1, "PER": 10, "GPE1": 1, "GPE2": 500}))
    assert list(misspellings.find({"LOC": 10, "LCO": 1})) == [("LCO", "LOC")]
    texts = {f"{'long text ' * 500}{i}": 1 for i in range(2000)}  # a wrong column; all their forms would be 50 GB
    assert not list(misspellings.find(texts | {"spam": 10}))


def test_long_and_many_classes_cost_no_time():
    long = (
        "a1" * 20_000,
        "a 0." * 10_000,
        "x," * 20_000,
        "[1,2" * 10_000,
        "a" + " " * 20_000 + "b",
        "0" * 20_000 + "%",
    )
    many = {f"text {i} of some words": 1 for i in range(50_000)}
    (sentence,) = label_doubts.warnings("y", dict.fromkeys(long, 1) | many | {"spam": 20})
    assert "is it the column of the labels?" in sentence


def test_numbers_that_a_regression_cannot_learn_are_reported(tmp_path):
    (note,) = notes(load(tmp_path, head="regress", train=[1e9, 1e9 + 1, 1e9 + 500]))
    assert note == "warning: the 3 different numbers of train are 2 in float32; subtract one number from all"
    assert not notes(load(tmp_path, head="regress", train=[0.3, 0.1 + 0.2, *range(20)]))
    with pytest.raises(command.UserError, match="'5%', which is not a number; write the number alone"):
        load(tmp_path, head="regress", train="1,5%")
