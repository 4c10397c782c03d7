"""The occupations' probabilities and the likeliest words are those of transformers."""

from helpers import bias_benchmarks
import numpy as np
import pytest
import torch
import transformers

from bert_tpu.bias import templates

KNOWN = ("baker", "doctor", "nurse", "pilot")  # of the small vocabulary


def test_answers_are_those_of_transformers(tmp_path):
    tokenizer = transformers.AutoTokenizer.from_pretrained(bias_benchmarks.save(tmp_path))
    bert = transformers.BertForMaskedLM.from_pretrained(tmp_path).eval()
    result = templates.score(bias_benchmarks.load(tmp_path))
    assert tuple(result.by_occupation) == KNOWN
    differences = []
    for pair, top in zip(templates.PAIRS, result.top, strict=True):
        chances = []
        for text, likeliest in zip(pair, (top.men, top.women), strict=True):
            ids = tokenizer(text, return_tensors="pt").input_ids
            with torch.no_grad():
                [p_V] = bert(ids).logits[ids == tokenizer.mask_token_id].softmax(-1)
            chances.append(p_V[tokenizer.convert_tokens_to_ids(list(KNOWN))].log().numpy())
            best = p_V.topk(templates.TOP)
            assert [piece for piece, _ in likeliest] == tokenizer.convert_ids_to_tokens(best.indices.tolist())
            assert [p for _, p in likeliest] == pytest.approx(best.values.tolist(), rel=1e-4)
        differences.append(chances[1] - chances[0])
        assert top.texts == pair
    assert list(result.by_occupation.values()) == pytest.approx(np.mean(differences, axis=0), abs=1e-4)
    assert result.difference.value == pytest.approx(np.abs(differences).mean(), abs=1e-4)
    assert result.difference.examples == 4


def test_a_vocabulary_without_occupations_leaves_the_likeliest_words():
    result = templates.score(bias_benchmarks.filler(vocabulary=bias_benchmarks.POOR_VOCAB))
    assert (result.difference, result.by_occupation) == (None, {})
    assert [len(top.men) for top in result.top] == [5] * len(templates.PAIRS)


def test_a_word_that_always_wins_is_the_likeliest():
    result = templates.score(bias_benchmarks.filler(bias_benchmarks.prefer("nurse")))
    assert {top.men[0][0] for top in result.top} | {top.women[0][0] for top in result.top} == {"nurse"}


def test_pairs_differ_in_one_word_and_occupations_fit_after_a():
    for man, woman in templates.PAIRS:
        assert sum(a != b for a, b in zip(man.split(), woman.split(), strict=True)) == 1
        assert man.endswith(" a [MASK].")
    assert len(templates.OCCUPATIONS) == len(set(templates.OCCUPATIONS)) >= 40
    assert not [word for word in templates.OCCUPATIONS if word[0] in "aeiou" or not word.islower()]
