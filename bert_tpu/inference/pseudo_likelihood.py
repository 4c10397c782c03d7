"""Pseudo-log-likelihoods of sentences: the sum of each piece's log-probability while the piece is masked.

Two rules say which other pieces are masked with it. "original" masks none (Salazar et al. 2020, arXiv:1910.14659). It
rates a rare word too high, because its first pieces are guessed from its last ones. "within_word_l2r" also masks the
pieces to the right in the same word (Kauf and Ivanova 2023, arXiv:2305.10588). [CLS] and [SEP] are neither masked nor
counted. A word is what BERT separates by white space and punctuation before it cuts pieces.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers

from bert_tpu.core import command
from bert_tpu.huggingface import pretrained
from bert_tpu.inference import fill_mask, likelihood
from bert_tpu.tokenizer import vocab

RULES = ("original", "within_word_l2r")
BLOCK = 1000  # sentences scored at a time


class Scorer(NamedTuple):
    """A loaded model, and the tokenizer to which "[MASK]" in a text is ordinary text."""

    filler: fill_mask.Model
    tokenizer: tokenizers.Tokenizer


class Sentence(NamedTuple):
    """A sentence as the model reads it."""

    ids: list[int]  # with [CLS] and [SEP]
    ends: list[int]  # of each piece between them: the place behind the last piece of its word

    @property
    def words(self) -> int:
        """Number of words."""
        return len(set(self.ends))


def load(path: str | Path) -> Scorer:
    """Loads the model of a Hugging Face directory or workdir. Raises UserError if it has no MLM head."""
    model = pretrained.load(path)
    return Scorer(fill_mask.ready(model, path), vocab.tokenizer(model.vocab))


def encode(scorer: Scorer, text: str) -> Sentence:
    """Returns the pieces of a text and their words. Raises UserError if it is longer than the model, or not UTF-8."""
    fill_mask.check_text(text)
    encoding = scorer.tokenizer.encode(text, add_special_tokens=False)
    ids, longest = scorer.filler.ids, scorer.filler.bert.max_positions
    if len(encoding.ids) > longest - 2:
        raise command.UserError(
            f"{text[:60]!r} has {len(encoding.ids) + 2:,} tokens with [CLS] and [SEP] and the model takes {longest:,}: "
            "leave it out or split it"
        )
    # An added token has no number and is a word of its own.
    words = [place if word is None else -word - 1 for place, word in enumerate(encoding.word_ids)]
    ends: list[int] = []
    for place in reversed(range(len(words))):
        ends.append(ends[-1] if ends and words[place] == words[place + 1] else place + 2)  # behind [CLS]
    return Sentence([ids.cls, *encoding.ids, ids.sep], ends[::-1])


def scores(
    scorer: Scorer, sentences: Sequence[Sentence], rules: Sequence[str] = RULES, name: str = "scoring"
) -> np.ndarray:
    """Returns the pseudo-log-likelihood of each sentence by each rule, in nats, float64 [sentences, rules].

    name: the title of the progress bar
    """
    # The last piece of a word is the same question by both rules, and most words have one piece.
    numbers: dict[tuple[int, int, int], int] = {}
    asked = [
        [numbers.setdefault((row, *span), len(numbers)) for span in _spans(sentence, rule)]
        for row, sentence in enumerate(sentences)
        for rule in rules
    ]
    mask = scorer.filler.ids.mask
    questions = [_question(sentences[row].ids, place, end, mask) for row, place, end in numbers]
    log_probs = likelihood.log_probs(scorer.filler, questions, name).astype(np.float64)
    return np.array([log_probs[chosen].sum() for chosen in asked]).reshape(len(sentences), len(rules))


def in_blocks(scorer: Scorer, sentences: Sequence[Sentence]) -> Iterator[np.ndarray]:
    """Yields the `scores` of each sentence, [rules], in their order. Needs memory for BLOCK sentences at a time."""
    for first in range(0, len(sentences), BLOCK):
        block = sentences[first : first + BLOCK]
        yield from scores(scorer, block, name=f"lines {first + 1:,} to {first + len(block):,}")


def _spans(sentence: Sentence, rule: str) -> Iterator[tuple[int, int]]:
    """Yields (place of a piece, place behind the last one that is masked with it) for each piece."""
    for place, end in enumerate(sentence.ends, start=1):
        yield place, place + 1 if rule == "original" else end


def _question(ids: list[int], place: int, end: int, mask: int) -> likelihood.Question:
    return likelihood.Question([*ids[:place], *[mask] * (end - place), *ids[end:]], place, ids[place])
