"""Scores of tags equal those of seqeval and conlleval, and those of scikit-learn for single words.

helpers/entity_counts.txt has the entities that are right, predicted and real in each of 2 x 1,000 random sentences:
`get_entities` of seqeval 1.2.2 on tags B, I, E, S and O, and conlleval.pl of 2004-01-26 (Erik Tjong Kim Sang, run by
Perl on one sentence at a time) on B, I and O, the tags it knows. It has 20 sentences a line.
"""

import itertools
import random

from conftest import ROOT
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from bert_tpu.tasks import tag_schemes, tag_scores

TYPES = ("PER", "LOC", "ORG-X")


def sentences(seed, marks, number=1000):
    """Yields (true tags, predicted tags), of which most sequences break the rules of every scheme."""
    rng = random.Random(seed)
    tags = ["O", *(f"{mark}-{kind}" for mark in marks for kind in TYPES)]

    def draw(before):
        near = [tag for tag in tags if before != "O" and tag[1:] == before[1:]]
        return rng.choice(near if near and rng.random() < 0.5 else tags)

    for _ in range(number):
        truth, guess = [], []
        for _ in range(rng.randint(1, 12)):
            truth.append(draw(truth[-1] if truth else "O"))
        for tag in truth:
            guess.append(tag if rng.random() < 0.7 else draw(guess[-1] if guess else "O"))
        yield truth, guess


@pytest.mark.parametrize(("program", "seed", "marks"), [("seqeval", 1, "BIES"), ("conlleval", 2, "BI")])
def test_entities_are_counted_as_others_count_them(program, seed, marks):
    lines = (ROOT / "tests/helpers/entity_counts.txt").read_text().splitlines()
    recorded = [counts for line in lines if line.startswith(program) for counts in line.split()[1:]]
    scheme = tag_schemes.Scheme("prefix")
    pairs = [[scheme.entities(tags) for tags in pair] for pair in sentences(seed, marks)]
    counts = tag_scores.entity_counts(*zip(*pairs, strict=True)).astype(int)
    assert ["/".join(map(str, row)) for row in counts.tolist()] == recorded


def test_scores_of_entities():
    scores = tag_scores.entity_scores(np.array([[3.0, 4, 6], [0, 0, 2], [0, 0, 0]]))
    assert scores["precision"].tolist() == [0.75, 0, 0]
    assert scores["recall"].tolist() == [0.5, 0, 0]
    assert scores["f1"] == pytest.approx([0.6, 0, 0])


def test_scores_of_words_are_scikit_learn_s():
    rng = random.Random(0)
    truth = [rng.choices(["O", "A", "B", "only true"], k=5) for _ in range(40)]
    guess = [[tag if rng.random() < 0.6 else rng.choice(["O", "A", "B", "only guessed"]) for tag in t] for t in truth]
    scores = tag_scores.word_scores(tag_scores.word_counts(truth, guess).sum(0), has_outside=True)
    flat = list(itertools.chain(*truth)), list(itertools.chain(*guess))
    inner = [tag for tag in {*flat[0], *flat[1]} if tag != "O"]
    wanted = {
        "f1": sklearn_metrics.f1_score(*flat, labels=inner, average="micro"),
        "precision": sklearn_metrics.precision_score(*flat, labels=inner, average="micro"),
        "recall": sklearn_metrics.recall_score(*flat, labels=inner, average="micro"),
        "accuracy": sklearn_metrics.accuracy_score(*flat),
        "macro_f1": sklearn_metrics.f1_score(*flat, average="macro", zero_division=0),
    }
    assert {name: float(value) for name, value in scores.items()} == pytest.approx(wanted)
    assert list(scores) == list(wanted)


def test_a_word_without_a_prediction_is_wrong_and_no_tag():
    sums = tag_scores.word_counts([["A", "B", "B"]], [["A", None, "B"]]).sum(0)
    scores = tag_scores.word_scores(sums, has_outside=False)
    assert {name: float(value) for name, value in scores.items()} == pytest.approx(
        {"accuracy": 2 / 3, "macro_f1": (1 + 2 / 3) / 2}
    )


def test_draws_are_sums_over_as_many_sentences():
    counts = np.random.default_rng(1).integers(1000, size=(20, 3, 2)).astype(np.float64)
    counts[..., 1] = counts[..., 0] + 1
    drawn = tag_scores.draws(counts, resamples=130)
    assert drawn.shape == (130, 3, 2)
    assert len({row.tobytes() for row in drawn}) == 130
    # Columns that differ by one in each sentence differ by the number of sentences in each draw.
    assert (drawn[..., 1] - drawn[..., 0] == 20).all()
    assert (drawn == tag_scores.draws(counts, resamples=130)).all()
    assert drawn.mean(0) == pytest.approx(counts.sum(0), rel=0.15)


def test_a_split_without_o_keeps_all_of_its_tags():
    truth, guess = [["DET", "N", "V"]], [["DET", "DET", "DET"]]
    scores = tag_scores.word_scores(tag_scores.word_counts(truth, guess).sum(0), has_outside=True)
    for name in ("f1", "precision", "recall", "accuracy"):
        assert scores[name] == pytest.approx(1 / 3)
