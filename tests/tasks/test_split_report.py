"""A fine-tuning prints its data before it trains: classes and counts, cut rows, rows without content, rows of train."""

from helpers.token_row_cases import LETTERS, VOCABULARY
import numpy as np

from bert_tpu.data import token_rows
from bert_tpu.tasks import split_report
from bert_tpu.tasks.task import Task


def task(splits, *, labels=("no", "yes"), head="classify", eval_splits=("validation",), notes=(), max_length=8):
    """A task of split -> (texts, pairs or None, labels)."""
    rows = {
        name: token_rows.encode(texts, pairs, np.array(values), max_length=max_length, vocabulary=VOCABULARY)
        for name, (texts, pairs, values) in splits.items()
    }
    return Task("t", head, labels, rows, eval_splits, score=None, write=None, bootstrap=None, notes=notes)


def report(*args, max_length=8, positions=16, **options):
    read = task(*args, max_length=max_length, **options)
    return split_report.text(read, VOCABULARY, max_length=max_length, positions=positions).splitlines()


def test_classes_and_their_counts_stand_in_a_table():
    splits = {
        "train": (["a", "b", "c", "d"], None, [0, 1, 1, 1]),
        "validation": (["a b", "c d"], None, [0, 3]),
        "test": (["e"], None, [-1]),
    }
    assert report(splits, notes=("train.csv: a note",)) == [
        "train.csv: a note",
        "                   train  validation  test",
        "rows                   4           2     1",
        "no              1  25.0%    1  50.0%",
        "yes             3  75.0%    0   0.0%",
        "(not in train)              1  50.0%",
        "(no label)                             all",
    ]


def test_of_many_classes_the_commonest_are_listed():
    numbers = [*range(100), *range(50, 60)]
    names = tuple(f"{'long ' * 9}{i}" for i in range(100))
    lines = report(
        {"train": ([" ".join(LETTERS[int(c)] for c in str(i)) for i in range(110)], None, numbers)}, labels=names
    )
    assert len(lines) == 2 + split_report.CLASSES + 1
    assert lines[-1].split() == ["(80", "other", "classes)", "80", "72.7%"]
    assert sum("2   1.8%" in line for line in lines) == 10


def test_numbers_are_described_by_their_range():
    lines = report({"train": (["a", "b"], None, [1.5, -2.0])}, head="regress", labels=("y",), eval_splits=())
    assert [line.split() for line in lines[2:]] == [["lowest", "-2"], ["mean", "-0.25"], ["highest", "1.5"]]


def test_cut_rows_are_counted_with_the_max_length_that_helps():
    long = ["a b c d e f g h", "a", "b"]  # 10 tokens of 16
    (line,) = report({"train": (long, None, [0, 1, 1])})[4:]
    assert line == (
        "train: 1 of 3 rows are cut to max_length 8, and 12.5% of the tokens are never seen; --config.max_length=10 "
        "cuts none"
    )
    (line,) = report({"train": (long, None, [0, 1, 1])}, positions=9)[4:]
    assert line.endswith("the model's 9 positions cut as many, so divide these rows")
    longer = ["a b c d e f g h", "a b c d e f g", "a"]
    (line,) = report({"train": (longer, None, [0, 1, 1])}, positions=9)[4:]
    assert line.endswith("--config.max_length=9 cuts 1 of them")
    (line,) = report({"train": (long, None, [0, 1, 1])}, positions=8)[4:]
    assert line.endswith("the model has no more positions")


def test_rows_without_text_or_of_unknown_words_are_counted():
    pairs = {"train": (["a", "b", " \t", "\u4e16\u754c"], ["c", "", "a", "\u4e16"], [0, 1, 1, 1])}
    assert report(pairs)[4:] == [
        "warning: train: 2 rows with a text without any token, row 2 first",
        "warning: train: 42.9% of the tokens are [UNK], and all tokens of 1 row; does the model's tokenizer know this "
        "language and script?",
    ]
    lines = report({"train": (["a b c d e f"] * 20 + ["\u4e16"], None, [0] * 20 + [1])}, max_length=16)[4:]
    assert lines == ["warning: train: 0.8% of the tokens are [UNK], and all tokens of 1 row"]


def test_rows_of_train_with_several_classes_are_counted():
    (line,) = report({"train": (["a", "b", "A ", "a", "c", "c"], None, [0, 1, 1, 0, 1, 1])})[4:]
    assert line == "warning: train: 3 of 6 rows have the tokens of a row with another label"


def test_rows_of_train_in_other_splits_are_counted():
    same_beginning = ["a b c d e f g h", "a b c d e f g"]  # alike only after the cut
    splits = {
        "train": (["a b", same_beginning[0], "c"], None, [0, 1, 1]),
        "validation": (["A  b", "b a", same_beginning[1], "a b"], None, [0, 1, 1, 0]),
        "test": (["d"], None, [-1]),
    }
    (line,) = (line for line in report(splits) if "in train too" in line)
    assert line.startswith("warning: validation: 2 of 4 rows are in train too, token by token")


def test_pairs_with_the_same_tokens_divided_elsewhere_are_different_rows():
    splits = {"train": (["a", "b"], ["b c", "c"], [0, 1]), "validation": (["a b", "b"], ["c", "d"], [0, 1])}
    assert not [line for line in report(splits) if "in train too" in line]


def test_equal_rows_are_those_of_equal_tokens_in_blocks_of_any_size(monkeypatch):
    monkeypatch.setattr(split_report, "BLOCK", 7)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["a", "b", "c"], rng.integers(6))) for _ in range(100)]
    labels = rng.integers(2, size=100).tolist()
    splits = {"train": (texts[:60], None, labels[:60]), "validation": (texts[60:], None, labels[60:])}
    train = list(zip(texts[:60], labels[:60], strict=True))
    contradicted = sum((text, 1 - label) in train for text, label in train)
    leaked = sum(text in texts[:60] for text in texts[60:])
    assert 0 < leaked < 40
    assert [line.split()[2] for line in report(splits)[-2:]] == [str(contradicted), str(leaked)]


def test_a_split_of_one_label_is_named_if_it_is_scored():
    texts, letters = ["a", "b"], list(LETTERS[:8])
    splits = {"train": (texts, None, [0, 1]), "validation": (letters, None, [0] * 8), "test": (letters, None, [0] * 8)}
    found = [line for line in report(splits) if "scores mean nothing" in line]
    assert found == [
        "warning: validation: all 8 rows have the label 'no'; if that stands for no label, its scores mean nothing"
    ]
    splits["validation"] = (letters, None, [0] * 7 + [1])
    assert not [line for line in report(splits) if "scores mean nothing" in line]
    numbers = {"train": (texts, None, [0.5, 1.0]), "validation": (letters, None, [0.0] * 8)}
    assert [line for line in report(numbers, head="regress", labels=("y",)) if "all 8 rows have the label 0;" in line]


def test_numbers_of_another_size_are_named():
    far = {"train": (["a", "b"], None, [0.0, 100.0]), "validation": (["c"], None, [50.0])}
    (line,) = (line for line in report(far, head="regress", labels=("y",)) if "warning" in line)
    assert line.startswith("warning: train: the numbers reach 100, but the model begins near 0")
    near = {"train": (["a", "b"], None, [0.0, 1.0]), "validation": (["c", "d", "e"], None, [50.0, 0.5, 60.0])}
    (line,) = (line for line in report(near, head="regress", labels=("y",)) if "warning" in line)
    assert line == (
        "warning: validation: 2 of 3 numbers are far outside those of train, 0 to 1; are they in the same unit?"
    )
