"""Exact match and F1 equal those by hand, and the figures that the official scripts print."""

import pytest

from bert_tpu.tasks import squad_metrics


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat's\n(an) A-10!", "cats a10"),
        ("a an the THE", ""),
        ("theatre Athens an. a", "theatre athens"),
        ("«the» — “an” US$5", "« » — “ ” us5"),  # only ASCII's marks go
        ("A.", ""),  # marks go before articles
        ("the-end", "theend"),
        ("x\u00a0y\u2009 z", "x y z"),
        ("ΟΔΟΣ", "οδος"),
        ("!?", ""),
    ],
)
def test_text_is_normalized_as_the_scripts_do(text, normal):
    assert squad_metrics.normalize(text) == normal


@pytest.mark.parametrize(
    ("text", "gold", "f1"),
    [
        ("the Denver Broncos", "Denver Broncos!", 1.0),
        ("Denver", "Denver Broncos", 2 / 3),  # precision 1, recall 1/2
        ("a b b c", "b b b d", 4 / 7),  # two of b, c against three b and d: 2/3 and 2/4
        ("cat", "dog", 0.0),
        ("", "dog", 0.0),
        ("the", "a", 0.0),
    ],
)
def test_f1_is_that_of_the_shared_words(text, gold, f1):
    assert squad_metrics.overlap(text, gold) == pytest.approx(f1, abs=1e-15)
    assert squad_metrics.overlap(gold, text) == pytest.approx(f1, abs=1e-15)


GOLDS = [
    ["Denver Broncos", "the Broncos"], ["in 1854"], ["the"], [], [], ["10 %", "ten"], [], ["Santa Clara, California"],
]  # fmt: skip
TEXTS = ["Broncos!", "1854", "an", "1854", "cat", "eleven", "dog", "Clara"]
ODDS = [-3.5, 0.25, 0.5, -1.25, 2.0, -0.5, 4.0, 1.5]
RECORDED = {
    "exact": 50.0,
    "f1": 58.33333333333333,
    "HasAns_exact": 40.0,
    "HasAns_f1": 53.33333333333333,
    "NoAns_exact": 66.66666666666667,
    "NoAns_f1": 66.66666666666667,
    "best_exact": 50.0,
    "best_exact_thresh": -3.5,
    "best_f1": 64.58333333333333,
    "best_f1_thresh": 1.5,
}


def test_scores_of_version_1_are_hand_computed():
    """The best gold answer counts. Articles alone are an exact match without a word in common."""
    golds = [known or ["x"] for known in GOLDS]
    # exact: Broncos, an. f1: 1, 2/3, 0, 0, 0, 0, 0, 1/2.
    assert squad_metrics.evaluate_v1_1(TEXTS, golds) == {
        "f1": pytest.approx(100 * (1 + 2 / 3 + 1 / 2) / 8, abs=1e-12),
        "exact_match": 25.0,
    }


def test_scores_of_version_2_are_hand_computed():
    """At threshold 0 questions 0, 3 and 5 are answered; F1 is best with all but the last two, exact match with one."""
    scores = squad_metrics.evaluate_v2_0(TEXTS, GOLDS, ODDS, 0.0)
    # With answers: Broncos 1; 1854, an, Clara emptied: 0; eleven 0. Without: 1854 is wrong, cat and dog emptied: right.
    assert {key: round(value, 9) for key, value in scores.items()} == {
        "f1": 37.5, "exact": 37.5,
        "HasAns_f1": 20.0, "HasAns_exact": 20.0,
        "NoAns_f1": round(200 / 3, 9), "NoAns_exact": round(200 / 3, 9),
        # By the odds, from 3 without any: Broncos +1, 1854 -1, eleven 0, 1854 +2/3, an +1, Clara +1/2, cat and dog -1.
        "best_f1": round(100 * (3 + 1 - 1 + 2 / 3 + 1 + 1 / 2) / 8, 9), "best_f1_thresh": 1.5,
        "best_exact": 50.0, "best_exact_thresh": -3.5,
    }  # fmt: skip
    assert next(iter(scores)) == "f1"


def test_scores_are_those_that_evaluate_v2_0_prints():
    """The script's own figures for the same answers at --na-prob-thresh 1.0."""
    scores = squad_metrics.evaluate_v2_0(TEXTS, GOLDS, ODDS, 1.0)
    assert scores == pytest.approx(RECORDED, rel=1e-15)


def test_the_empty_answer_is_right_where_there_is_none():
    scores = squad_metrics.evaluate_v2_0(["", "", "cat"], [[], ["x"], ["cat"]], [-3.0, -1.0, -2.0], 9.0)
    assert (scores["NoAns_f1"], scores["HasAns_exact"]) == (100.0, 50.0)
    assert (scores["best_f1"], scores["best_f1_thresh"]) == (pytest.approx(200 / 3), -2.0)


def test_odds_at_the_threshold_leave_the_answer():
    for threshold, exact in ((0.5, 100.0), (0.25, 0.0)):
        assert squad_metrics.evaluate_v2_0(["x"], [["x"]], [0.5], threshold)["exact"] == exact


def test_a_group_without_questions_has_no_score():
    assert "NoAns_f1" not in squad_metrics.evaluate_v2_0(["x"], [["x"]], [0.0], 0.0)
    scores = squad_metrics.evaluate_v2_0(["x"], [[]], [0.5], 0.0)
    assert "HasAns_f1" not in scores
    assert (scores["best_f1"], scores["best_f1_thresh"], scores["f1"]) == (100.0, 0.0, 100.0)
