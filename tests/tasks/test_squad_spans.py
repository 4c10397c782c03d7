"""Answers are the highest of all possible pairs, whatever the windows, and their text is the context's."""

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
    """Returns windows over contexts, with two questions about each, and the context of every question."""
    asked = tuple(squad_file.Question(text, text, ()) for text in ASKED)
    windows = squad_windows.make(
        [squad_file.Paragraph(context, asked) for context in contexts], path="dev.json",
        vocabulary=squad_files.VOCABULARY, **dict(max_length=20, doc_stride=5, max_query_length=8) | settings,
    )  # fmt: skip
    return windows, [context for context in contexts for _ in ASKED]


def noise(windows, seed=0):
    return np.random.default_rng(seed).normal(0, 3, (len(windows.rows.ids), 2)).astype(np.float32)


def every_pair(windows, contexts, logits, max_answer_length):
    """Returns, for each question, (score, text) of every pair that may be an answer, highest first."""
    pairs = [[] for _ in contexts]
    for row, question in enumerate(windows.questions):
        begin, stop = windows.context_places[row], windows.rows.lengths[row] - 1
        for first in range(begin, stop):
            for last in range(first, min(first + max_answer_length, stop)):
                low = windows.offsets[windows.context_tokens[row] + first - begin, 0]
                high = windows.offsets[windows.context_tokens[row] + last - begin, 1]
                score = logits[windows.rows.starts[row] + [first, last], [0, 1]].sum()
                pairs[question].append((float(score), contexts[question][low:high]))
    return [sorted(of, key=lambda pair: -pair[0]) for of in pairs]


@pytest.mark.parametrize(("n_best", "max_answer_length"), [(1, 1), (3, 2), (20, 30), (500, 7)])
def test_answers_are_the_highest_of_all_pairs(n_best, max_answer_length, monkeypatch):
    monkeypatch.setattr(squad_spans, "CHUNK", 6)
    windows, contexts = make()
    assert len(windows.questions) > 2 * squad_spans.CHUNK
    logits = noise(windows)
    spans = squad_spans.best_spans(windows, contexts, logits, n_best=n_best, max_answer_length=max_answer_length)
    for likely, pairs in zip(spans, every_pair(windows, contexts, logits, max_answer_length), strict=True):
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
    windows, contexts = make()
    logits = noise(windows, seed).round()  # with ties
    spans = squad_spans.best_spans(windows, contexts, logits, n_best=n_best, max_answer_length=max_answer_length)
    for likely, pairs in zip(spans, every_pair(windows, contexts, logits, max_answer_length), strict=True):
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
    windows = squad_windows.make(
        [squad_file.Paragraph(context, (asked,))], path="dev.json",
        vocabulary=squad_files.VOCABULARY, max_length=64, doc_stride=32, max_query_length=8,
    )  # fmt: skip
    logits = np.zeros((len(windows.rows.ids), 2), np.float32)
    logits[windows.rows.labels[0], [0, 1]] = 9
    assert squad_spans.best_spans(windows, [context], logits, n_best=5, max_answer_length=30)[0][0] == squad_spans.Span(
        word, 9, 9
    )


def test_logits_outside_of_the_context_and_backward_pairs_make_no_answer():
    windows, contexts = make(["un low"], max_length=64, doc_stride=32)
    expected = squad_spans.best_spans(windows, contexts, noise(windows), n_best=9, max_answer_length=9)
    assert {span.text for span in expected[0]} == {"un", "low", "un low"}
    logits = noise(windows)
    for start, begin, length in zip(windows.rows.starts, windows.context_places, windows.rows.lengths, strict=False):
        logits[start : start + begin] += 50
        logits[start + length - 1] += 50
    assert squad_spans.best_spans(windows, contexts, logits, n_best=9, max_answer_length=9) == expected


def test_no_answer_is_that_of_the_window_where_cls_is_lowest():
    windows, contexts = make()
    logits = noise(windows)
    spans = squad_spans.null_spans(windows, logits)
    assert len(spans) == len(contexts)
    for question, span in enumerate(spans):
        at_cls = [logits[windows.rows.starts[row]] for row in np.flatnonzero(windows.questions == question)]
        assert (span.start_logit, span.end_logit) == tuple(min(at_cls, key=sum))
        assert span.text == ""


def test_probabilities_are_the_softmax_of_the_scores():
    scores = (800.0, 799.0, 2.0)
    spans = squad_spans.probabilities([squad_spans.Span("x", score - 1, 1.0) for score in scores])
    assert spans == pytest.approx([1 / (1 + math.exp(-1)), math.exp(-1) / (1 + math.exp(-1)), 0])
    assert sum(spans) == pytest.approx(1)
