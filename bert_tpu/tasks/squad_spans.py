"""Answers from logits: the likeliest spans for each question over all its windows, and its null answer."""

from typing import NamedTuple

import numpy as np

from bert_tpu.tasks import squad_windows

CHUNK = 256  # windows at a time: their logits and pairs stay in the processor's cache


class Span(NamedTuple):
    """A possible answer. The text of the null answer, that there is none, is empty."""

    text: str
    start_logit: float
    end_logit: float

    @property
    def score(self) -> float:
        """The log of its probability, up to a constant of the question."""
        return self.start_logit + self.end_logit


def best_spans(
    windows: squad_windows.Windows, contexts: list[str], logits: np.ndarray, *, n_best: int, max_answer_length: int
) -> list[list[Span]]:
    """Returns the `n_best` likeliest texts for each question, the likeliest first; fewer from a shorter context.

    The `n_best` highest spans of each window compete, and a text that several spans have counts once, with its highest
    score. run_squad.py of google-research/bert compares only pairs of the `n_best` likeliest starts and ends, which
    may be outside of the context; here no pair is left out.

    contexts: of each question
    logits: float32 [all tokens, 2], for the first and the last token of an answer
    max_answer_length: tokens, all of the context
    """
    row, first, last = _pairs(windows, logits, n_best, max_answer_length)
    begin = windows.rows.starts[row]
    ends = np.stack([logits[begin + first, 0], logits[begin + last, 1]], axis=-1)
    question = windows.questions[row]
    order = np.lexsort((last, first, row, -ends.sum(-1, dtype=np.float64), question))
    start, stop = windows.characters(row, first, last)
    spans: list[dict[str, Span]] = [{} for _ in contexts]
    for q, a, b, (s, e) in zip(*(column[order].tolist() for column in (question, start, stop, ends)), strict=True):
        text = contexts[q][a:b]
        if len(spans[q]) < n_best and text not in spans[q]:
            spans[q][text] = Span(text, s, e)
    return [list(by_text.values()) for by_text in spans]


def null_spans(windows: squad_windows.Windows, logits: np.ndarray) -> list[Span]:
    """Returns the null answer to each question: [CLS] to [CLS] in the window where that is least likely.

    logits: as for `best_spans`
    """
    ends = logits[windows.rows.starts[:-1]]
    order = np.lexsort((ends.sum(-1, dtype=np.float64), windows.questions))
    _, lowest = np.unique(windows.questions, return_index=True)
    return [Span("", s, e) for s, e in ends[order[lowest]].tolist()]


def probabilities(spans: list[Span]) -> list[float]:
    """Returns the softmax of the spans' scores."""
    scores = np.array([span.score for span in spans])
    weights = np.exp(scores - scores.max())
    return (weights / weights.sum()).tolist()


def _pairs(
    windows: squad_windows.Windows, logits: np.ndarray, n_best: int, max_answer_length: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the `n_best` highest pairs of every row, in no order: row, first and last place, each [pairs]."""
    chunks = []
    for low in range(0, len(windows.questions), CHUNK):
        chunk = slice(low, low + CHUNK)
        starts, begins, lengths = (
            x[chunk, None] for x in (windows.rows.starts[:-1], windows.context_places, windows.rows.lengths)
        )
        places = np.arange(lengths.max())
        is_context = (begins <= places) & (places < lengths - 1)
        first_BL, last_BL = np.where(is_context, logits.T[:, np.minimum(starts + places, len(logits) - 1)], -np.inf)
        last_BL = np.pad(last_BL, ((0, 0), (0, max_answer_length - 1)), constant_values=-np.inf)
        last_BLA = np.lib.stride_tricks.sliding_window_view(last_BL, max_answer_length, axis=1)
        # The n highest pairs start at the n places whose highest pair is highest; the others need no look.
        place_BN = _highest(first_BL + last_BLA.max(axis=-1), n_best)
        row = np.arange(len(place_BN))[:, None]
        pairs = (first_BL[row, place_BN][:, :, None] + last_BLA[row, place_BN]).reshape(len(row), -1)
        picked = _highest(pairs, n_best)
        row, column = np.nonzero(pairs[row, picked] > -np.inf)
        start, more = np.divmod(picked[row, column], max_answer_length)
        first = place_BN[row, start]
        chunks.append((low + row, first, first + more))
    rows, firsts, lasts = (np.concatenate(columns) for columns in zip(*chunks, strict=True))
    return rows, firsts, lasts


def _highest(scores: np.ndarray, count: int) -> np.ndarray:
    """Returns the columns of the `count` highest scores of every row, in no order; all columns if there are fewer."""
    count = min(count, scores.shape[1])
    return np.argpartition(scores, -count, axis=1)[:, -count:]
