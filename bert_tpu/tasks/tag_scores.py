"""Scores of tagged sentences: by whole entities, as conlleval and seqeval count them, or by single words."""

from collections.abc import Iterator, Sequence

import numpy as np

from bert_tpu.tasks import metrics, tag_schemes

DRAWS_AT_ONCE = 50


def entity_counts(
    truth: Sequence[set[tag_schemes.Entity]], predictions: Sequence[set[tag_schemes.Entity]]
) -> np.ndarray:
    """Returns the number of entities of each sentence that are right, predicted and real: float64 [N, 3]."""
    pairs = zip(truth, predictions, strict=True)
    return np.array([(len(t & p), len(p), len(t)) for t, p in pairs], np.float64).reshape(-1, 3)


def word_counts(truth: Sequence[Sequence[str]], predictions: Sequence[Sequence[str | None]]) -> np.ndarray:
    """Returns words of each sentence that are right, predicted and real, for each tag: float64 [N, tags, 3].

    The tags are O, which is first even if no word has it, and all that occur in `truth` and `predictions`. None
    predicts nothing.
    """
    names = {tag for tags in (*truth, *predictions) for tag in tags if tag is not None} | {tag_schemes.OUTSIDE}
    places = {tag: i for i, tag in enumerate(sorted(names, key=lambda tag: (tag != tag_schemes.OUTSIDE, tag)))}
    counts = np.zeros((len(truth), len(places), 3))
    for row, tags, guesses in zip(counts, truth, predictions, strict=True):
        for tag, guess in zip(tags, guesses, strict=True):
            row[places[tag], 2] += 1
            if guess is not None:
                row[places[guess], 1] += 1
                row[places[tag], 0] += tag == guess
    return counts


def entity_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Returns F1, precision and recall, 0 where undefined, of `entity_counts` summed over sentences [..., 3]."""
    right, predicted, real = np.moveaxis(sums, -1, 0)
    ratios = {"f1": (2 * right, predicted + real), "precision": (right, predicted), "recall": (right, real)}
    return {metric: part / np.where(whole > 0, whole, 1) for metric, (part, whole) in ratios.items()}


def word_scores(sums: np.ndarray, *, has_outside: bool) -> dict[str, np.ndarray]:
    """Returns scores of `word_counts` summed over sentences [..., tags, 3].

    Accuracy and macro F1 are over all words and tags. With `has_outside`, F1, precision and recall over the words
    whose tag is not O, the first of the tags, come before them: most words are O, and accuracy would only show that.
    """
    right, predicted, real = np.moveaxis(sums, -1, 0)
    f1 = 2 * right / np.maximum(predicted + real, 1)
    occurs = predicted + real > 0
    means = {
        "accuracy": right.sum(-1) / np.maximum(real.sum(-1), 1),
        "macro_f1": np.where(occurs, f1, 0).sum(-1) / np.maximum(occurs.sum(-1), 1),
    }
    return (entity_scores(sums[..., 1:, :].sum(-2)) if has_outside else {}) | means


def draws(counts: np.ndarray, *, resamples: int = metrics.RESAMPLES, seed: int = 0) -> np.ndarray:
    """Returns sums of counts [N, ...] over N sentences that are drawn with replacement: float64 [resamples, ...].

    The draws are the same for all counts with as many sentences.
    """
    flat = counts.reshape(len(counts), -1)
    sums = [weights @ flat for weights in _weights(len(flat), resamples, np.random.default_rng(seed))]
    return np.concatenate(sums).reshape(resamples, *counts.shape[1:])


def _weights(rows: int, resamples: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yields how often each row is drawn, float64 [at most DRAWS_AT_ONCE, rows]."""
    for start in range(0, resamples, DRAWS_AT_ONCE):
        picks = (rng.integers(rows, size=rows) for _ in range(start, min(start + DRAWS_AT_ONCE, resamples)))
        yield np.array([np.bincount(pick, minlength=rows) for pick in picks], np.float64)
