"""Pronouns' probabilities are those of transformers; a model that expects women scores so; bad files are refused."""

from helpers import bias_benchmarks
import numpy as np
import pytest
import torch
import transformers

from bert_tpu.bias import winogender
from bert_tpu.core import command


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return bias_benchmarks.write_winogender(tmp_path_factory.mktemp("winogender"))


@pytest.fixture(scope="module")
def sentences(folder):
    return winogender.read(folder / winogender.FILE)


def test_chances_and_log_odds_are_those_of_transformers(tmp_path, sentences):
    tokenizer = transformers.AutoTokenizer.from_pretrained(bias_benchmarks.save(tmp_path))
    bert = transformers.BertForMaskedLM.from_pretrained(tmp_path).eval()
    wanted = []
    for _, _, _, text, pronouns in bias_benchmarks.SENTENCES:
        wanted.append([])
        for pronoun in pronouns:
            masked = text.format(he="[MASK]")
            masked = masked.replace("was", "were") if pronoun == "they" else masked
            ids = tokenizer(masked, return_tensors="pt").input_ids
            with torch.no_grad():
                [p_V] = bert(ids).logits[ids == tokenizer.mask_token_id].softmax(-1)
            wanted[-1].append(p_V[tokenizer.convert_tokens_to_ids(pronoun.lower())].item())
    wanted = np.array(wanted)
    odds = np.log(wanted[:, 1] / wanted[:, 0])
    result = winogender.score(bias_benchmarks.load(tmp_path), sentences, bias_benchmarks.SHARES)
    assert [result.probability[gender] for gender in winogender.GENDERS] == pytest.approx(wanted.mean(0), rel=1e-4)
    assert result.log_odds.value == pytest.approx(odds.mean(), abs=1e-4)
    assert result.of_occupation.value == pytest.approx(odds[[0, 2, 4, 5]].mean(), abs=1e-4)
    assert result.of_participant.value == pytest.approx(odds[[1, 3]].mean(), abs=1e-4)
    assert [each.examples for each in result[:4]] == [4, 4, 2, 4]
    names = ["nurse", "doctor", "pilot", "baker"]
    assert [result.by_occupation[name] for name in names] == pytest.approx(odds[[0, 2, 4, 5]], abs=1e-4)
    shares = [bias_benchmarks.SHARES[name] for name in names]
    assert result.correlation.value == pytest.approx(np.corrcoef(shares, odds[[0, 2, 4, 5]])[0, 1], abs=1e-4)


@pytest.mark.parametrize(
    ("pieces", "sign", "gender"), [(("she", "her"), 1, "female"), (("he", "his", "him"), -1, "male")]
)
def test_a_pronoun_that_always_wins_shows_with_its_sign(sentences, pieces, sign, gender):
    result = winogender.score(
        bias_benchmarks.filler(bias_benchmarks.prefer(*pieces)), sentences, bias_benchmarks.SHARES
    )
    assert max(result.probability, key=result.probability.get) == gender
    for each in result[:3]:
        assert sign * each.value > 20
        assert sign * each.low > 20
        assert sign * each.high > 20


def test_expecting_women_where_they_are_correlates():
    sentences = [
        winogender.Sentence(name, "0", ("",) * 3, ("",) * 3) for name in bias_benchmarks.SHARES for _ in range(2)
    ]
    odds = np.repeat([share / 10 for share in bias_benchmarks.SHARES.values()], 2)
    log_probs = np.stack([-odds, 0 * odds, 0 * odds - 9], axis=1)
    assert winogender.judge(sentences, log_probs, bias_benchmarks.SHARES).correlation.value == pytest.approx(1)
    turned = winogender.judge(sentences, -log_probs, bias_benchmarks.SHARES)
    assert turned.correlation.value == pytest.approx(-1)
    assert turned.log_odds.value == pytest.approx(-odds.mean())
    alone = winogender.judge(sentences, log_probs, {})
    assert (alone.correlation, alone.women_percent) == (None, {})
    twice = winogender.judge(sentences * 2, np.tile(log_probs, (2, 1)), bias_benchmarks.SHARES)
    assert twice.log_odds.value == pytest.approx(odds.mean())
    assert twice.correlation.value == pytest.approx(1)


def test_occupations_are_what_is_drawn():
    """Sentences of one occupation give the same value, so the interval is that of the occupations' means."""
    rng = np.random.default_rng(0)
    odds = rng.normal(size=60)
    sentences = [winogender.Sentence(f"{i:02}", "0", ("",) * 3, ("",) * 3) for i in range(60) for _ in range(8)]
    log_odds = winogender.judge(
        sentences, np.stack([0 * np.repeat(odds, 8), *[np.repeat(odds, 8)] * 2], 1), {}
    ).log_odds
    assert log_odds.high - log_odds.low == pytest.approx(2 * 1.96 * odds.std() / 60**0.5, rel=0.15)


def test_sentences_are_masked_where_the_pronoun_was(sentences):
    assert [each[:2] for each in sentences] == [(each[0], each[2]) for each in bias_benchmarks.SENTENCES]
    assert sentences[1].texts[1:] == ("The nurse told the cat that [MASK] was small.",
                                      "The nurse told the cat that [MASK] were small.")  # fmt: skip
    assert sentences[4] == ("pilot", "0", ("[MASK] ran, the pilot.",) * 3, ("He", "She", "They"))
    assert sentences[5].texts == ("The baker said: the dog saw [MASK].",) * 3


def test_pronouns_of_several_pieces_are_left_out(sentences):
    result = winogender.score(
        bias_benchmarks.filler(vocabulary=bias_benchmarks.POOR_VOCAB), sentences, bias_benchmarks.SHARES
    )
    assert result[:4] == (None,) * 4
    assert (result.probability, result.by_occupation, result.left_out) == ({}, {}, 6)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda text: text.replace("sentence\n", "text\n"), "has no column 'sentence'"),
        (lambda text: text.replace("nurse.cat.1.male", "nurse.cat.2.male"), "line 5: 'nurse.cat.2.male.txt' is not"),
        (lambda text: text.replace("nurse.cat.1.male", "nurse.cat.1"), "line 5: 'nurse.cat.1.txt' is not"),
        (lambda text: text.replace("that she ran", "that she sat"), "nurse.cat.0 differ in more than a pronoun"),
        (lambda text: text.replace("that she ran", "that he ran"), "nurse.cat.0 differ in more than a pronoun"),
        (lambda text: text[: text.index("their mat") - 60], "line|no neutral form"),
        (lambda text: text[: text.index("baker.dog.0.neutral")], "no neutral form of baker.dog.0"),
        (lambda text: text[: text.index("\n") + 1], "has no rows"),
    ],
)
def test_other_files_are_refused(folder, tmp_path, edit, complaint):
    path = tmp_path / winogender.FILE
    path.write_text(edit((folder / winogender.FILE).read_text()))
    with pytest.raises(command.UserError, match=rf"all_sentences.tsv.*({complaint})"):
        winogender.read(path)


@pytest.mark.parametrize("share", ["", "many", "nan", "101", "-1"])
def test_shares_are_per_cent(tmp_path, share):
    bias_benchmarks.write_winogender(tmp_path, shares=bias_benchmarks.SHARES | {"pilot": share})
    with pytest.raises(
        command.UserError, match=r"occupations-stats.tsv line 4: .* is not a share of women in per cent"
    ):
        winogender.read_shares(tmp_path / winogender.SHARES)


def test_shares_are_read(folder):
    assert winogender.read_shares(folder / winogender.SHARES) == bias_benchmarks.SHARES
