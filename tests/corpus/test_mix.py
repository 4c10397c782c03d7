"""Sources are read as often as --mix says."""

import re

from helpers import prepare_runs
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.corpus import mix, prepare
from bert_tpu.tokenizer import vocab

PATHS = ["a/wiki_00", "a/wiki_01", "b/book.txt"]


def epochs(*words, tokens=(300, 100, 100)):
    return mix.epochs(mix.parse(words), PATHS, np.array(tokens)).tolist()


def test_epochs_are_those_of_the_first_entry_that_matches():
    assert epochs() == [1, 1, 1]
    assert epochs("*book*=2.5") == [1, 1, 2.5]
    assert epochs("a/wiki_00=0", "a/*=3") == [0, 3, 1]


def test_a_name_with_brackets_is_that_file_as_for_input():
    for paths, matched in ((["a [1].txt", "a 1.txt"], [0, None]), (["a [1].txt"], [0]), (["a 1.txt"], [0])):
        assert mix.match(mix.parse(["a [1].txt=3"]), paths) == matched


def test_shares_are_of_the_tokens_that_are_read():
    result = epochs("*wiki*=50%", "*book*=50%")
    assert result == [1, 1, 4]
    weighted = np.array(result) * [300, 100, 100]
    assert weighted[2] / weighted.sum() == 0.5
    result = epochs("*wiki*=95%", "*book*=5%")
    assert min(result) == 1
    weighted = np.array(result) * [300, 100, 100]
    assert weighted[2] / weighted.sum() == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["x"], "neither"), (["=2"], "neither"), (["*=-1"], "neither"), (["*=nan"], "neither"), (["*=1x"], "neither"),
        (["*wiki*=50%", "*book*=40%"], "add up to 100%"), (["*wiki*=100%", "*book*=1"], "not be mixed with epochs"),
        (["*wiki*=100%", "*book*=0%"], "above 0%"), (["*wiki*=100%"], "b/book.txt has no share"),
        (["*none*=2"], "no source is left for"),
    ],
)  # fmt: skip
def test_an_impossible_mix_is_named(words, complaint):
    with pytest.raises(command.UserError, match=complaint):
        epochs(*words)


def test_a_share_of_nothing_is_named():
    with pytest.raises(command.UserError, match="nothing is left of"):
        epochs("*wiki*=50%", "*book*=50%", tokens=(1, 1, 0))


def test_a_fraction_of_an_epoch_takes_that_fraction_of_the_documents():
    hashes = np.random.default_rng(0).integers(0, 2**64, 10_000, np.uint64)
    times = mix.copies(hashes, np.full(10_000, 1.25))
    assert set(times.tolist()) == {1, 2}
    assert times.mean() == pytest.approx(1.25, abs=0.02)
    assert np.array_equal(times, mix.copies(hashes, np.full(10_000, 1.25)))
    # Documents with low hashes are in the evaluation split; they must not all have the same number of copies.
    low = hashes < 2**63
    assert times[low].mean() == pytest.approx(1.25, abs=0.03)


def test_a_source_whose_documents_do_not_divide_is_named():
    source, epochs = np.array([0, 1, *[2] * 3]), np.array([0.5, 0.5, *[2.5] * 3])
    tokens, entries = np.array([200, 200, 20, 30, 50]), mix.parse(["*wiki*=0.5", "*book*=2.5"])
    exact, few = np.array([100, 100, 50, 75, 125]), np.array([95, 105, 60, 90, 150])
    assert mix.misses(entries, PATHS, source, epochs * tokens, exact) == []
    assert mix.misses(entries, PATHS, source, epochs * tokens, few) == [
        "--mix '*book*': 300 training tokens instead of 250, because 3 documents or pieces must be taken whole: a "
        "whole number of epochs is exact"
    ]
    assert len(mix.misses(entries, PATHS, source, epochs * tokens, 0 * exact)) == 2


def test_prepare_names_it(tmp_path, capsys):
    vocab.save(prepare_runs.VOCABULARY, tmp_path / "T")
    for name in "aZ":
        (tmp_path / f"{name}.txt").write_text(
            "\n\n".join(map(prepare_runs.document, range(100 * ord(name), 100 * ord(name) + 40)))
        )
    inputs = [str(tmp_path / "*.txt")]
    prepare.prepare(inputs, tmp_path / "T", tmp_path / "out", mix=("*a.txt=0.02", "*Z.txt=2"), heldout=0.1, workers=1)
    [warning] = [line for line in capsys.readouterr().err.splitlines() if "--mix" in line]
    assert warning.startswith("warning: --mix '*a.txt': ")
    assert re.search(r"because 3\d documents or pieces must be taken whole", warning)  # of 40, some are held out
