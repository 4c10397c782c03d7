"""The answers are the highest of all pairs that may be one, whatever the windows, and their text is the context's."""

import math

from helpers import squad_files
import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from bert_tpu.tasks import squad_file, squad_spans, squad_windows

ASKED = ("what?", "is it the cafe?")
CONTEXTS = ("the un low cafe the un low cafe é", "low " * 23 + "Café", "un", "中日本 ran. the\u0301 Low-er  CAFE\u0301")


def make(contexts=CONTEXTS, **settings):
    """Windows over contexts, two questions about each, and the context of every question."""
    asked = tuple(squad_file.Question(text, text, ()) for text in ASKED)
    made = squad_windows.make(
        [squad_file.Paragraph(context, asked) for context in contexts], path="dev.json",
        vocabulary=squad_files.VOCABULARY, **dict(max_length=20, doc_stride=5, max_query_length=8) | settings,
    )  # fmt: skip
    return made, [context for context in contexts for _ in ASKED]


def noise(made, seed=0):
    return np.random.default_rng(seed).normal(0, 3, (len(made.rows.ids), 2)).astype(np.float32)


def every_pair(made, contexts, logits, max_answer_length):
    """Question -> (score, text) of every pair that may be an answer, highest first."""
    pairs = [[] for _ in contexts]
    for row, question in enumerate(made.questions):
        begin, stop = made.begins[row], made.rows.lengths[row] - 1
        for first in range(begin, stop):
            for last in range(first, min(first + max_answer_length, stop)):
                low = made.offsets[made.firsts[row] + first - begin, 0]
                high = made.offsets[made.firsts[row] + last - begin, 1]
                score = logits[made.rows.starts[row] + [first, last], [0, 1]].sum()
                pairs[question].append((float(score), contexts[question][low:high]))
    return [sorted(of, key=lambda pair: -pair[0]) for of in pairs]


@pytest.mark.parametrize(("n_best", "max_answer_length"), [(1, 1), (3, 2), (20, 30), (500, 7)])
def test_answers_are_the_highest_of_all_pairs(n_best, max_answer_length, monkeypatch):
    monkeypatch.setattr(squad_spans, "CHUNK", 6)
    made, contexts = make()
    assert len(made.questions) > 2 * squad_spans.CHUNK
    logits = noise(made)
    found = squad_spans.best(made, contexts, logits, n_best=n_best, max_answer_length=max_answer_length)
    for likely, pairs in zip(found, every_pair(made, contexts, logits, max_answer_length), strict=True):
        highest = pairs[:n_best] if n_best < 500 else pairs
        texts = list(dict.fromkeys(text for _, text in highest))
        assert [span.text for span in likely[: len(texts)]] == texts
        assert len(likely) <= n_best
        assert likely[0].score == pytest.approx(pairs[0][0], abs=1e-5)
        assert [span.score for span in likely] == sorted((span.score for span in likely), reverse=True)


@hypothesis.settings(deadline=None)
@hypothesis.given(
    seed=strategies.integers(0, 1000), max_answer_length=strategies.integers(1, 40), n_best=strategies.integers(1, 300)
)
def test_a_text_counts_once_at_its_best(seed, max_answer_length, n_best):
    made, contexts = make()
    logits = noise(made, seed).round()  # with ties
    found = squad_spans.best(made, contexts, logits, n_best=n_best, max_answer_length=max_answer_length)
    for likely, pairs in zip(found, every_pair(made, contexts, logits, max_answer_length), strict=True):
        highest = {}
        for score, text in pairs:
            highest.setdefault(text, score)
        assert len({span.text for span in likely}) == len(likely)
        assert all(span.score <= highest[span.text] for span in likely)
        assert n_best < len(pairs) or {span.text: span.score for span in likely} == highest
        assert likely[0].score == pairs[0][0]
        assert likely


@pytest.mark.parametrize("word", ["中", "日", "ran", ".", "the\u0301", "Low", "er", "CAFE\u0301", "Low-er  CAFE\u0301"])
def test_the_text_is_the_contexts_own(word):
    context = CONTEXTS[-1]
    start = context.index(word)
    asked = squad_file.Question("q", "what?", (squad_file.Answer(word, start),))
    made = squad_windows.make(
        [squad_file.Paragraph(context, (asked,))], path="dev.json",
        vocabulary=squad_files.VOCABULARY, max_length=64, doc_stride=32, max_query_length=8,
    )  # fmt: skip
    logits = np.zeros((len(made.rows.ids), 2), np.float32)
    logits[made.rows.labels[0], [0, 1]] = 9
    assert squad_spans.best(made, [context], logits, n_best=5, max_answer_length=30)[0][0] == squad_spans.Span(
        word, 9, 9
    )


def test_logits_outside_of_the_context_and_backward_pairs_make_no_answer():
    made, contexts = make(["un low"], max_length=64, doc_stride=32)
    expected = squad_spans.best(made, contexts, noise(made), n_best=9, max_answer_length=9)
    assert {span.text for span in expected[0]} == {"un", "low", "un low"}
    logits = noise(made)
    for start, begin, length in zip(made.rows.starts, made.begins, made.rows.lengths, strict=False):
        logits[start : start + begin] += 50
        logits[start + length - 1] += 50
    assert squad_spans.best(made, contexts, logits, n_best=9, max_answer_length=9) == expected


def test_no_answer_is_that_of_the_window_where_cls_is_lowest():
    made, contexts = make()
    logits = noise(made)
    found = squad_spans.none(made, logits)
    assert len(found) == len(contexts)
    for question, span in enumerate(found):
        at_cls = [logits[made.rows.starts[row]] for row in np.flatnonzero(made.questions == question)]
        assert (span.start_logit, span.end_logit) == tuple(min(at_cls, key=sum))
        assert span.text == ""


def test_probabilities_are_the_softmax_of_the_scores():
    scores = (800.0, 799.0, 2.0)
    found = squad_spans.probabilities([squad_spans.Span("x", score - 1, 1.0) for score in scores])
    assert found == pytest.approx([1 / (1 + math.exp(-1)), math.exp(-1) / (1 + math.exp(-1)), 0])
    assert sum(found) == pytest.approx(1)
