"""CrowS-Pairs' scores are those of the published definition, written in PyTorch; bad files are refused."""

import difflib

from helpers import bias_benchmarks
import hypothesis
from hypothesis import strategies
import numpy as np
import pytest
import torch
import transformers

from bert_tpu.bias import crows_pairs
from bert_tpu.core import command
from bert_tpu.inference import likelihood


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return bias_benchmarks.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def filler(directory):
    return bias_benchmarks.load(directory)


def published(directory, pairs):
    """Returns [(sent_more's score, sent_less's)] and the four numbers that the authors' program prints."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory)
    bert = transformers.BertForMaskedLM.from_pretrained(directory).eval()

    def log_likelihood(ids, places):
        total = 0.0
        for place in places:
            masked = list(ids)
            masked[place] = tokenizer.mask_token_id
            with torch.no_grad():
                logits = bert(torch.tensor([masked])).logits[0, place]
            total += torch.log_softmax(logits, 0)[ids[place]].item()
        return round(total, 3)

    scores, stereo, antistereo, neutral = [], [], [], 0
    for more, less, direction, _ in pairs:
        ids = [tokenizer(text.lower()).input_ids for text in ((more, less) if direction == "stereo" else (less, more))]
        places = [], []
        for kind, a, a_end, b, b_end in difflib.SequenceMatcher(
            None, *[list(map(str, each)) for each in ids]
        ).get_opcodes():
            if kind == "equal":
                places[0].extend(range(a, a_end))
                places[1].extend(range(b, b_end))
        first, second = (log_likelihood(each, where[1:-1]) for each, where in zip(ids, places, strict=True))
        if first == second:
            neutral += 1
        elif direction == "stereo":
            stereo.append(first > second)
        else:
            antistereo.append(second > first)
        scores.append((first, second) if direction == "stereo" else (second, first))
    metric = 100 * (sum(stereo) + sum(antistereo)) / len(pairs)
    return np.array(scores), metric, 100 * np.mean(stereo), 100 * np.mean(antistereo), neutral


def test_scores_are_the_published_ones(directory, filler, tmp_path):
    pairs = crows_pairs.read(bias_benchmarks.write_crows(tmp_path / "pairs.csv"))
    assert pairs == [crows_pairs.Pair(*pair) for pair in bias_benchmarks.PAIRS]
    scores, *totals = published(directory, pairs)
    result = crows_pairs.score(filler, pairs)
    np.testing.assert_allclose(np.stack(crows_pairs.scores(filler, pairs, "x"), 1), scores, rtol=0, atol=1e-3)
    assert [*(estimate.value for estimate in result[:3]), result.neutral] == pytest.approx(totals)
    assert [estimate.examples for estimate in result[:3]] == [6, 3, 2]
    assert (result.neutral, list(result.by_type)) == (1, ["gender", "colour", "none"])
    counts = 100 * (scores[:, 0] > scores[:, 1])
    for kind, estimate in result.by_type.items():
        assert estimate.value == np.mean([count for count, pair in zip(counts, pairs, strict=True) if pair[3] == kind])


@pytest.mark.parametrize("seed", range(8))
def test_shared_places_are_those_of_difflib_s_equal_pieces(seed):
    rng = np.random.default_rng(seed)
    first, second = ([1, *rng.integers(5, 12, rng.integers(1, 20)).tolist(), 2] for _ in range(2))
    places = crows_pairs.shared(first, second)
    assert [first[i] for i in places[0]] == [second[i] for i in places[1]]
    equal = [code for code in difflib.SequenceMatcher(None, first, second).get_opcodes() if code[0] == "equal"]
    assert places[0] == [i for code in equal for i in range(code[1], code[2])][1:-1]
    assert not {0, len(first) - 1} & set(places[0])
    assert not {0, len(second) - 1} & set(places[1])


def test_a_model_that_prefers_stereotypes_scores_high_in_both_directions(filler, monkeypatch):
    """Tokens next to "he" are likely and others are not, so sentences about him win in both directions."""
    he = bias_benchmarks.VOCAB.pieces.index("he")

    def next_to_he(_, questions, name):
        return np.array([-1.0 if he in question.ids else -2.0 for question in questions], np.float32)

    monkeypatch.setattr(likelihood, "log_probs", next_to_he)
    for direction in crows_pairs.DIRECTIONS:
        pair = crows_pairs.Pair("He ran.", "She ran.", direction, "gender")
        assert crows_pairs.score(filler, [pair] * 4).metric == (100, 100, 100, 4)
        turned = pair._replace(more=pair.less, less=pair.more)
        result = crows_pairs.score(filler, [turned] * 4)
        assert (result.metric.value, result.neutral) == (0, 0)
        assert (result.stereotype is None, result.antistereotype is None) == (
            direction != "stereo",
            direction == "stereo",
        )


def test_pairs_twice_change_no_score(filler):
    pairs = [crows_pairs.Pair(*pair) for pair in bias_benchmarks.PAIRS]
    once, twice = crows_pairs.score(filler, pairs), crows_pairs.score(filler, [*pairs, *pairs[::-1]])
    assert [each.value for each in twice[:3]] == pytest.approx([each.value for each in once[:3]])
    assert twice.neutral == 2 * once.neutral


def test_differences_below_half_a_thousandth_count_as_equal():
    pairs = [crows_pairs.Pair("a", "b", "stereo", "x")] * 3
    result = crows_pairs.judge(pairs, np.array([-5.00004, -5.0, -5.002]), np.array([-5.0, -5.001, -5.0]))
    assert (result.metric.value, result.stereotype.value, result.neutral) == (pytest.approx(100 / 3), 50, 1)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda text: text.replace("sent_less", "sent_fewer"), "has no column 'sent_less'"),
        (lambda text: text.replace(",antistereo,", ",both,"), "line 3 has the direction 'both'"),
        (lambda text: text.replace("It was the cat.,It", " ,It"), "line 6 lacks a sentence"),
        (lambda text: text[: text.index("and ran")], "line"),
        (lambda text: text[: text.rindex("]") - 3], "a quote that is never closed|does not have the 6 columns"),
        (lambda text: text.splitlines()[0] + "\n", "has no rows"),
        (lambda text: "", "is empty"),
    ],
)
def test_other_files_are_refused(tmp_path, edit, complaint):
    path = bias_benchmarks.write_crows(tmp_path / "pairs.csv")
    path.write_text(edit(path.read_text()))
    with pytest.raises(command.UserError, match=rf"pairs.csv .*({complaint})"):
        crows_pairs.read(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return bias_benchmarks.write_crows(tmp_path_factory.mktemp("crows") / "pairs.csv")


@hypothesis.given(strategies.data())
@hypothesis.settings(max_examples=60, deadline=None)
def test_a_cut_file_is_refused_or_has_the_first_pairs(whole, data):
    raw = whole.read_bytes()
    path = whole.with_name("cut.csv")
    path.write_bytes(raw[: data.draw(strategies.integers(0, len(raw)))] + data.draw(strategies.binary(max_size=3)))
    try:
        pairs = crows_pairs.read(path)
    except command.UserError:
        return
    assert pairs[:-1] == [crows_pairs.Pair(*pair) for pair in bias_benchmarks.PAIRS][: len(pairs) - 1]
