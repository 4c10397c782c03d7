"""Exact match and F1 of answers, as SQuAD's own scripts evaluate-v1.1.py and evaluate-v2.0.py define them."""

from collections import Counter
from collections.abc import Sequence
import re
import string

ARTICLES = re.compile(r"\b(a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def evaluate_v1_1(texts: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, float]:
    """Per cent of all questions, each at the best of its gold answers; under the names of evaluate-v1.1.py."""
    return {name: _per_cent(values) for name, values in values_v1_1(texts, golds).items()}


def values_v1_1(texts: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, list[float]]:
    """Of each question, 0 to 1, what the scores of `evaluate_v1_1` are means of."""
    pairs = list(zip(texts, golds, strict=True))
    return {
        "f1": [max(overlap(text, gold) for gold in known) for text, known in pairs],
        "exact_match": [exact(text, known) for text, known in pairs],
    }


def evaluate_v2_0(
    texts: Sequence[str], golds: Sequence[Sequence[str]], odds: Sequence[float], threshold: float
) -> dict[str, float]:
    """Per cent of all questions, of those with answers and those without; under the names of evaluate-v2.0.py.

    texts: the likeliest answers that are not empty. odds: that there is none; above `threshold` the empty answer is
    taken. best_exact and best_f1 are those at the threshold where they are highest. All this is what the script says
    of the same texts, with the odds as --na-prob-file and --na-prob-thresh. Of texts that are emptied beforehand it
    says the same but for the best ones: there it can then take back no empty answer.
    """
    answered = [bool(known) for known in golds]
    raw, scores = _answered_v2_0(texts, golds), {}
    for name, values in values_v2_0(texts, golds, odds, threshold).items():
        scores[name] = _per_cent(values)
        for group, wanted in (("HasAns", True), ("NoAns", False)):
            if wanted in answered:
                of = [value for value, has in zip(values, answered, strict=True) if has is wanted]
                scores[f"{group}_{name}"] = _per_cent(of)
    for name, values in raw.items():
        scores[f"best_{name}"], scores[f"best_{name}_thresh"] = _best(values, texts, answered, odds)
    return scores


def values_v2_0(
    texts: Sequence[str], golds: Sequence[Sequence[str]], odds: Sequence[float], threshold: float
) -> dict[str, list[float]]:
    """Of each question, 0 to 1, what the scores f1 and exact of `evaluate_v2_0` are means of."""
    return {
        name: [
            float(not known) if odd > threshold else value
            for value, known, odd in zip(values, golds, odds, strict=True)
        ]
        for name, values in _answered_v2_0(texts, golds).items()
    }


def _answered_v2_0(texts, golds):
    """The same where every question is answered by its text."""
    # An answer of articles and marks alone is none; where that leaves none, the empty one is right.
    golds = [[gold for gold in known if normalize(gold)] or [""] for known in golds]
    pairs = list(zip(texts, golds, strict=True))
    return {
        "f1": [
            max(overlap(text, gold) for gold in known) if any(known) else exact(text, known) for text, known in pairs
        ],
        "exact": [exact(text, known) for text, known in pairs],
    }


def normalize(text: str) -> str:
    """Lower case without ASCII punctuation, articles and superfluous white space."""
    return " ".join(ARTICLES.sub(" ", text.lower().translate(NO_PUNCTUATION)).split())


def exact(text: str, golds: Sequence[str]) -> float:
    """1 if the text is one of the gold answers once normalized, else 0."""
    return float(normalize(text) in map(normalize, golds))


def overlap(text: str, gold: str) -> float:
    """F1 of the words that two texts share once normalized; 0 where they share none."""
    words, wanted = normalize(text).split(), normalize(gold).split()
    same = (Counter(words) & Counter(wanted)).total()
    if not same:
        return 0.0
    precision, recall = same / len(words), same / len(wanted)
    return (2 * precision * recall) / (precision + recall)


def _per_cent(values):
    return 100.0 * sum(values) / len(values)


def _best(values, texts, answered, odds):
    """The highest score over all thresholds and the lowest threshold that has it, 0 where all answers are empty.

    As the script has it, questions of equal odds are taken in one by one, so that the score between two of them, which
    no threshold gives, counts as well.
    """
    score = best = answered.count(False)
    threshold = 0.0
    for i in sorted(range(len(odds)), key=odds.__getitem__):
        score += values[i] if answered[i] else -bool(texts[i])
        if score > best:
            best, threshold = score, odds[i]
    return 100.0 * best / len(values), threshold
