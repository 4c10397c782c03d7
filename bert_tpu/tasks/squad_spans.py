"""Answers from logits: the likeliest spans of each question over all its windows, and the odds that it has none."""

from typing import NamedTuple

import numpy as np

from bert_tpu.tasks import squad_windows

CHUNK = 256  # windows at a time: their logits and pairs stay in the processor's cache


class Span(NamedTuple):
    """A possible answer; text is empty for the answer that there is none."""

    text: str
    start_logit: float
    end_logit: float

    @property
    def score(self) -> float:
        """The log of its probability, up to a constant of the question."""
        return self.start_logit + self.end_logit


def best(
    made: squad_windows.Windows, contexts: list[str], logits: np.ndarray, *, n_best: int, max_answer_length: int
) -> list[list[Span]]:
    """For each question its `n_best` likeliest texts, likeliest first; fewer where its context holds fewer.

    contexts: of each question. logits: float32 [all tokens, 2], of being an answer's first and its last token. A span
    has 1 to `max_answer_length` tokens, all of context. The `n_best` highest of each window are weighed, and a text
    that several of them have counts once, at its highest. run_squad.py of google-research/bert weighs only pairs of
    the `n_best` likeliest starts and ends, which may lie outside of the context; here no pair is left out.
    """
    row, first, last = _pairs(made, logits, n_best, max_answer_length)
    begin = made.rows.starts[row]
    ends = np.stack([logits[begin + first, 0], logits[begin + last, 1]], axis=-1)
    question = made.questions[row]
    order = np.lexsort((last, first, row, -ends.sum(-1, dtype=np.float64), question))
    start, stop = made.characters(row, first, last)
    found = [{} for _ in contexts]
    for q, a, b, (s, e) in zip(*(column[order].tolist() for column in (question, start, stop, ends)), strict=True):
        text = contexts[q][a:b]
        if len(found[q]) < n_best and text not in found[q]:
            found[q][text] = Span(text, s, e)
    return [list(spans.values()) for spans in found]


def none(made: squad_windows.Windows, logits: np.ndarray) -> list[Span]:
    """For each question the answer that there is none: [CLS] to [CLS] of the window where that is least likely."""
    ends = logits[made.rows.starts[:-1]]
    order = np.lexsort((ends.sum(-1, dtype=np.float64), made.questions))
    _, leads = np.unique(made.questions, return_index=True)
    return [Span("", s, e) for s, e in ends[order[leads]].tolist()]


def probabilities(spans: list[Span]) -> list[float]:
    """The softmax of their scores."""
    scores = np.array([span.score for span in spans])
    weights = np.exp(scores - scores.max())
    return (weights / weights.sum()).tolist()


def _pairs(made, logits, n_best, max_answer_length):
    """Row, first and last place of the `n_best` highest pairs in every row, in no order: three arrays [pairs]."""
    found = []
    for low in range(0, len(made.questions), CHUNK):
        chunk = slice(low, low + CHUNK)
        starts, begins, lengths = (x[chunk, None] for x in (made.rows.starts[:-1], made.begins, made.rows.lengths))
        places = np.arange(lengths.max())
        is_context = (begins <= places) & (places < lengths - 1)
        first_BL, last_BL = np.where(is_context, logits.T[:, np.minimum(starts + places, len(logits) - 1)], -np.inf)
        last_BL = np.pad(last_BL, ((0, 0), (0, max_answer_length - 1)), constant_values=-np.inf)
        last_BLA = np.lib.stride_tricks.sliding_window_view(last_BL, max_answer_length, axis=1)
        # The n highest pairs start at the n places whose highest pair is highest; the others are not looked at.
        place_BN = _highest(first_BL + last_BLA.max(axis=-1), n_best)
        row = np.arange(len(place_BN))[:, None]
        pairs = (first_BL[row, place_BN][:, :, None] + last_BLA[row, place_BN]).reshape(len(row), -1)
        picked = _highest(pairs, n_best)
        row, column = np.nonzero(pairs[row, picked] > -np.inf)
        start, more = np.divmod(picked[row, column], max_answer_length)
        first = place_BN[row, start]
        found.append((low + row, first, first + more))
    return (np.concatenate(columns) for columns in zip(*found, strict=True))


def _highest(scores, count):
    """Columns of the `count` highest scores of every row, in no order; all where there are fewer."""
    count = min(count, scores.shape[1])
    return np.argpartition(scores, -count, axis=1)[:, -count:]
