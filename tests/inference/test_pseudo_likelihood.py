"""Scores of sentences are those of the papers' rules, computed one masked row at a time by transformers."""

import json
import sys

from helpers import bias_benchmarks
import numpy as np
import pytest
import torch
import transformers

from bert_tpu.core import command
from bert_tpu.inference import pseudo_likelihood
from bert_tpu.training import orbax_setup
from tools import score_sentences

SENTENCES = (
    "The doctor sat on the mat.",
    "zealous cats, running under-trees!",  # words of many pieces, and punctuation without spaces
    "xyz",
    "The Cat's tree; 1994",
    "她 sat",  # a word of one letter, and [UNK]
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return bias_benchmarks.save(tmp_path_factory.mktemp("model"))


def expected(directory, text):
    """(original, within_word_l2r) by the definitions, with the words of transformers' tokenizer."""
    bert = transformers.BertForMaskedLM.from_pretrained(directory).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    encoded = tokenizer(text, return_tensors="pt")
    ids, words = encoded["input_ids"][0], encoded.word_ids()
    totals = []
    for masks_rest in (False, True):
        total = 0.0
        for place in range(1, len(ids) - 1):
            hidden = [j for j in range(place, len(ids) - 1) if j == place or (masks_rest and words[j] == words[place])]
            row = ids.clone()
            row[hidden] = tokenizer.mask_token_id
            with torch.no_grad():
                total += torch.log_softmax(bert(row[None]).logits[0, place].double(), -1)[ids[place]].item()
        totals.append(total)
    return totals


def test_scores_are_those_of_the_papers_rules(directory):
    scorer = pseudo_likelihood.load(directory)
    sentences = [pseudo_likelihood.encode(scorer, text) for text in SENTENCES]
    scores = pseudo_likelihood.scores(scorer, sentences)
    theirs = np.array([expected(directory, text) for text in SENTENCES])
    np.testing.assert_allclose(scores, theirs, rtol=1e-5)
    assert [sentence.words for sentence in sentences] == [7, 8, 1, 7, 2]
    assert (abs(scores[:, 0] - scores[:, 1]) > 1e-3).tolist() == [False, True, True, True, False]
    np.testing.assert_allclose(list(pseudo_likelihood.in_blocks(scorer, sentences)), scores, rtol=1e-5)


def test_minicons_masks_and_scores_the_same(directory):
    scorer_module = pytest.importorskip("minicons.scorer")
    theirs = scorer_module.MaskedLMScorer(str(directory), "cpu")
    # minicons 0.3.39 itself calls a method that tokenizers of transformers 5 do not have.
    encoded = theirs.tokenizer(list(SENTENCES), return_tensors="pt", padding=True)
    scorer = pseudo_likelihood.load(directory)
    ours = pseudo_likelihood.scores(scorer, [pseudo_likelihood.encode(scorer, text) for text in SENTENCES])
    for column, rule in enumerate(pseudo_likelihood.RULES):
        values = theirs.compute_stats(list(theirs.prepare_text(encoded, rule)), return_tensors=True)
        np.testing.assert_allclose(ours[:, column], [value.sum().item() for value in values], rtol=1e-4)


def run(monkeypatch, *words):
    monkeypatch.setattr(orbax_setup, "quiet", lambda: None)
    monkeypatch.setattr(sys, "argv", ["tool", *map(str, words)])
    score_sentences.main()


def test_the_command_writes_and_prints_both_scores(directory, tmp_path, monkeypatch, capsys):
    (tmp_path / "lines").write_text("\n".join(SENTENCES) + "\n")
    run(monkeypatch, "--model", directory, "--input", tmp_path / "lines", "--out", tmp_path / "x.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").read_text().splitlines()]
    original = [line["original"] for line in lines]
    assert [line["words"] for line in lines] == [7, 8, 1, 7, 2]
    tokens = sum(line["tokens"] for line in lines)
    assert f"original {np.exp(-sum(original) / tokens):,.4g}, within_word_l2r" in capsys.readouterr().out
    # A carriage return ends no line by itself, as for bert-tpu embed.
    (tmp_path / "lines").write_bytes(b"the cat\rthe cat\r\nthe cat\r\n")
    run(monkeypatch, "--model", directory, "--input", tmp_path / "lines", "--out", tmp_path / "y.jsonl")
    assert len((tmp_path / "y.jsonl").read_text().splitlines()) == 2
    capsys.readouterr()
    run(monkeypatch, "--model", directory, *SENTENCES[:2])
    assert f"{original[1]:15.3f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"the cat\n\n", "line 2 has no text to score"),
        (b"the cat\n" + b"cat " * 99, "line 2: 'cat cat"),
        (b"the \xff\n", "line 1 is not UTF-8"),
        (b'{"text": "the cat"}\n', "lines is JSON, and a text on each line is wanted"),
        (b"", "is empty"),
    ],
)
def test_lines_without_a_score_are_refused_by_number(directory, tmp_path, monkeypatch, content, sentence):
    (tmp_path / "lines").write_bytes(content)
    with pytest.raises(command.UserError, match=sentence):
        run(monkeypatch, "--model", directory, "--input", tmp_path / "lines", "--out", tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()
