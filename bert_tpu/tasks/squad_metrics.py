"""Exact match and F1 of answers, as SQuAD's scripts evaluate-v1.1.py and evaluate-v2.0.py define them."""

from collections import Counter
from collections.abc import Sequence
import math
import re
import string

ARTICLES = re.compile(r"\b(a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def evaluate_v1_1(texts: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, float]:
    """Returns metrics in per cent, under the names of evaluate-v1.1.py. A question counts with its best gold answer.

    texts: the predicted answer to each question
    golds: the gold answers to each question
    """
    return {name: _per_cent(values) for name, values in values_v1_1(texts, golds).items()}


def values_v1_1(texts: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """Returns, for each metric of `evaluate_v1_1`, the score of each question, 0 to 1, of which it is the mean."""
    pairs = list(zip(texts, golds, strict=True))
    return {
        "f1": [max(overlap(text, gold) for gold in known) for text, known in pairs],
        "exact_match": [exact(text, known) for text, known in pairs],
    }


def evaluate_v2_0(
    texts: Sequence[str], golds: Sequence[Sequence[str]], odds: Sequence[float], threshold: float
) -> dict[str, float]:
    """Returns metrics in per cent, of all questions, of those with answers and of those without.

    best_exact and best_f1 are those at the threshold where they are highest. Names and values are those of
    evaluate-v2.0.py for the same texts, with the odds as --na-prob-file and the threshold as --na-prob-thresh. If the
    texts above the threshold are emptied beforehand, the script differs only in the best ones, as it cannot restore
    an emptied answer.

    texts: the likeliest answer to each question that is not empty
    golds: the gold answers to each question
    odds: null odds of each question, that it has no answer; above `threshold` its answer is the empty one
    """
    answered = [bool(known) for known in golds]
    raw, scores = _answered_v2_0(texts, golds), {}
    for name, values in values_v2_0(texts, golds, odds, threshold).items():
        scores[name] = _per_cent(values)
        for group, wanted in (("HasAns", True), ("NoAns", False)):
            if wanted in answered:
                of_group = [value for value, has in zip(values, answered, strict=True) if has is wanted]
                scores[f"{group}_{name}"] = _per_cent(of_group)
    for name, values in raw.items():
        scores[f"best_{name}"], scores[f"best_{name}_thresh"] = _best(values, texts, answered, odds)
    return scores


def values_v2_0(
    texts: Sequence[str], golds: Sequence[Sequence[str]], odds: Sequence[float], threshold: float
) -> dict[str, list[float]]:
    """Returns, for the metrics f1 and exact of `evaluate_v2_0`, the score of each question, of which they are means."""
    return {
        name: [
            float(not known) if odd > threshold else value
            for value, known, odd in zip(values, golds, odds, strict=True)
        ]
        for name, values in _answered_v2_0(texts, golds).items()
    }


def _answered_v2_0(texts: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """Returns what `values_v2_0` returns if no answer is empty."""
    # A gold answer of articles and punctuation alone does not count; if none is left, the empty answer is right.
    golds = [[gold for gold in known if normalize(gold)] or [""] for known in golds]
    pairs = list(zip(texts, golds, strict=True))
    return {
        "f1": [
            max(overlap(text, gold) for gold in known) if any(known) else exact(text, known) for text, known in pairs
        ],
        "exact": [exact(text, known) for text, known in pairs],
    }


def normalize(text: str) -> str:
    """Returns the text in lower case, without ASCII punctuation, articles and superfluous white space."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(NO_PUNCTUATION)).split())


def exact(text: str, golds: Sequence[str]) -> float:
    """Returns 1 if the normalized text equals a normalized gold answer, else 0."""
    return float(normalize(text) in map(normalize, golds))


def overlap(text: str, gold: str) -> float:
    """Returns the F1 of the words that two normalized texts share; 0 if they share none."""
    words, wanted = normalize(text).split(), normalize(gold).split()
    same = (Counter(words) & Counter(wanted)).total()
    if not same:
        return 0.0
    precision, recall = same / len(words), same / len(wanted)
    return (2 * precision * recall) / (precision + recall)


def _per_cent(values: Sequence[float]) -> float:
    # fsum has the same digits on every Python; sum() adds in another way since 3.12.
    return 100.0 * math.fsum(values) / len(values)


def _best(
    values: Sequence[float], texts: Sequence[str], answered: list[bool], odds: Sequence[float]
) -> tuple[float, float]:
    """Returns the highest score over all thresholds, in per cent, and the lowest threshold with it.

    The threshold is 0 if empty answers alone score best. As in the script, questions with equal odds count one after
    another, so that a score between two of them, which no threshold has, may be the highest.
    """
    score = best = float(answered.count(False))
    threshold = 0.0
    for i in sorted(range(len(odds)), key=odds.__getitem__):
        score += values[i] if answered[i] else -bool(texts[i])
        if score > best:
            best, threshold = score, odds[i]
    return 100.0 * best / len(values), threshold
