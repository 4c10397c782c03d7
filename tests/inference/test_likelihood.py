"""Log-probabilities at masked places are those of transformers, one row at a time, however rows share a batch."""

from helpers import bias_benchmarks, small_bert
import numpy as np
import pytest
import torch
import transformers

from bert_tpu.core import command
from bert_tpu.inference import likelihood

MOST = small_bert.SECTION["max_positions"]


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return bias_benchmarks.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def filler(directory):
    return bias_benchmarks.load(directory)


@pytest.fixture(scope="module")
def questions(filler):
    """More questions than a batch has; rows of 3 tokens up to all of the model's positions, in no order."""
    rng = np.random.default_rng(0)
    rows = []
    for length in [*rng.permutation(np.arange(3, MOST + 1)), *rng.integers(5, 20, 60)]:
        ids = [filler.ids.cls, *rng.integers(5, filler.bert.vocab_size, length - 2).tolist(), filler.ids.sep]
        rows.append(likelihood.masked(filler, ids, int(rng.integers(1, length - 1))))
    return rows


def test_log_probabilities_are_those_of_transformers(directory, filler, questions):
    bert = transformers.BertForMaskedLM.from_pretrained(directory).eval()
    expected = []
    for question in questions:
        with torch.no_grad():
            logits = bert(torch.tensor([question.ids])).logits[0, question.place]
        expected.append(torch.log_softmax(logits, -1)[question.piece].item())
    assert len(questions) > likelihood.ASKED
    answers = likelihood.log_probs(filler, questions)
    assert (answers.dtype, answers.min() < -5) == (np.float32, True)
    np.testing.assert_allclose(answers, expected, rtol=0, atol=2e-5)


def test_other_questions_change_no_answer_and_one_program_serves_all(filler, questions):
    likelihood._log_probs.clear_cache()
    whole = likelihood.log_probs(filler, questions)
    again = np.random.default_rng(1).permutation([*range(len(questions)), 3, 3, 3])
    mixed = likelihood.log_probs(filler, [questions[i] for i in again])
    np.testing.assert_allclose(mixed, whole[again], rtol=0, atol=1e-5)
    for number in (0, 50):
        [alone] = likelihood.log_probs(filler, [questions[number]])
        np.testing.assert_allclose(alone, whole[number], rtol=0, atol=1e-5)
    assert likelihood._log_probs._cache_size() == 1
    assert likelihood.log_probs(filler, []).shape == (0,)


def test_probabilities_of_all_pieces_add_up_to_one(filler, questions):
    every = [questions[0]._replace(piece=piece) for piece in range(filler.bert.vocab_size)]
    assert np.exp(likelihood.log_probs(filler, every)).sum() == pytest.approx(1, abs=1e-5)


def test_one_row_may_hold_more_questions_than_a_batch(filler, questions, monkeypatch):
    whole = likelihood.log_probs(filler, questions)
    for name, value in {"SHORTEST": 8, "TOKENS": 64, "ASKED": 3}.items():
        monkeypatch.setattr(likelihood, name, value)
    np.testing.assert_allclose(likelihood.log_probs(filler, questions), whole, rtol=0, atol=1e-5)


def test_a_text_is_a_row_and_a_long_one_is_refused(filler):
    assert likelihood.row(filler, "The cat [MASK]s.") == [
        filler.ids.cls, *map(bias_benchmarks.VOCAB.pieces.index, ("the", "cat", "[MASK]", "s", ".")), filler.ids.sep
    ]  # fmt: skip
    assert len(likelihood.row(filler, "the " * (MOST - 2))) == MOST
    with pytest.raises(command.UserError, match=r"'the the .* has 49 tokens .* the model takes 48: leave its task out"):
        likelihood.row(filler, "the " * (MOST - 1))
