"""Trains a WordPiece vocabulary in BERT's id layout. The same text gives the same vocabulary."""

import collections
from collections.abc import Callable, Iterable, Iterator
import itertools

from tokenizers import pre_tokenizers, trainers

from bert_tpu.core import command
from bert_tpu.tokenizer import long_words, normalization, vocab

LAYOUT = ("[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class NoTextError(command.UserError):
    """The lines have no word that a vocabulary could have."""


def train(
    read_lines: Callable[[], Iterable[str]],
    vocab_size: int,
    *,
    lower: bool = True,
    alphabet_size: int = 1000,
    coverage: float = 0.9995,
    min_count: int = 2,
) -> vocab.Vocab:
    """A vocabulary of exactly `vocab_size` pieces; ids 0-103 are as in Google's vocabularies.

    read_lines: returns the lines of the text from its start; it is called twice
    vocab_size: pieces, at most vocab.MAX_PIECES
    lower: text is lower-cased
    alphabet_size: the most frequent letters that get a piece; all others become [UNK]
    coverage: more letters get a piece, the most frequent ones, until they make this share of the text. The default is
        that of SentencePiece for scripts of many signs
    min_count: occurrences that a pair of pieces needs to be merged

    Raises NoTextError for lines without text, UserError if the text cannot fill the vocabulary. It does so before it
    reads text if vocab_size is too large.
    """
    if vocab_size > vocab.MAX_PIECES:
        raise command.UserError(
            f"vocab_size {vocab_size:,} is too large, as ids are stored in 16 bits; "
            f"ask for at most {vocab.MAX_PIECES:,}"
        )
    alphabet = _alphabet(_countable(read_lines(), lower), lower, alphabet_size, coverage)
    if not alphabet:
        raise NoTextError("the input has no text; name files with text")
    # The library numbers continuing letters in the order of a randomly seeded hash map, and breaks ties between merges
    # by number. As special pieces they get their numbers from us.
    fixed = [*LAYOUT, *alphabet, *(f"##{c}" for c in alphabet if _continues(c))]
    if vocab_size < len(fixed):
        raise command.UserError(
            f"vocab_size {vocab_size} has no room for the {len(fixed)} special pieces and letters "
            f"of this text; ask for at least {len(fixed)}"
        )
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_count,
        special_tokens=fixed,
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    learner = vocab.tokenizer(vocab.Vocab(LAYOUT, lower))
    learner.train_from_iterator(_countable(read_lines(), lower), trainer)
    pieces = learner.get_vocab()
    if len(pieces) < vocab_size:
        raise command.UserError(
            f"the text yields {len(pieces)} pieces, not {vocab_size}; give more text or ask for at most {len(pieces)}"
        )
    return vocab.Vocab(tuple(sorted(pieces, key=pieces.__getitem__)), lower)


def _countable(lines: Iterable[str], lower: bool) -> Iterator[str]:
    """The lines without words that are [UNK] for their length: they would take the trainer hours, and pieces."""
    normalizer, max_chars = normalization.normalizer(lower), normalization.GOOGLE_RULES.max_chars
    for line in lines:
        if len(line) > max_chars // long_words.LONGEST_LETTER:
            yield from long_words.lines_without(line, max_chars, normalizer)
        else:
            yield line


def _alphabet(lines: Iterable[str], lower: bool, size: int, coverage: float) -> list[str]:
    """The `size` most frequent letters after normalization, or as many as make a share `coverage` of all, sorted."""
    raw: collections.Counter[str] = collections.Counter()
    for line in lines:
        raw.update(line)
    rule = normalization.normalizer(lower)
    letters: collections.Counter[str] = collections.Counter()
    for letter, count in raw.items():
        for normal in rule.normalize_str(letter):
            letters[normal] += 0 if normal.isspace() else count
    ranked = sorted((-count, letter) for letter, count in letters.items() if count)
    reached = itertools.accumulate(-count for count, _ in ranked)
    covering = next((n for n, total in enumerate(reached, 1) if total >= coverage * letters.total()), 0)
    return sorted(letter for _, letter in ranked[: max(size, covering)])


def _continues(letter: str) -> bool:
    """True if `letter` can follow another in a word. Punctuation and CJK characters are words of one letter."""
    normal = normalization.normalizer(lower=False).normalize_str(f"a{letter}a")
    return len(pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normal)) == 1
