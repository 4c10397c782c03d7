"""Sentences about a task of tagged words, so that a reader sees at a glance what was read, and what is lost."""

from collections import Counter
from collections.abc import Iterator
import itertools
import operator
import re
from typing import NamedTuple

import numpy as np

from bert_tpu.core import numerals
from bert_tpu.tasks import misspellings, tag_schemes, tagged

LISTED = 20  # tags or types of a split
EXAMPLE = 12  # words of the example
# Words that no text has -> where they come from.
ODD = (
    (re.compile(r"nan|NaN|<NA>|#N/A|#NAME\?"), "as pandas and Excel write null, NA or None"),
    (re.compile(r"b'.+'|b\".+\""), "which are Python's bytes"),
    (
        re.compile(r"\[(?:CLS|SEP|PAD|UNK)\]|##\w+|</?s>|<(?:eos|bos|pad|unk)>|\\n|[\u2581\u0120].*", re.IGNORECASE),
        "as tokenizers and other programs add or cut them",
    ),
)
FIRST_WORD = operator.itemgetter(1)  # of an entity
TORN = 20  # sentences of one word from which on that is hardly chance


class Reach(NamedTuple):
    """Words of a split that become tokens. `cut` and `seen` have one array of places for each sentence."""

    max_length: int
    cut: list[np.ndarray]  # words behind the first max_length tokens
    seen: list[np.ndarray]  # words with a token before that


def notes(
    sentences: dict[str, tagged.Sentences], scheme: tag_schemes.Scheme, reaches: dict[str, Reach]
) -> Iterator[str]:
    """Yields an example of the training split, then what each split has, lacks and loses.

    sentences, reaches: of each split
    scheme: of their tags
    """
    train = sentences["train"]
    yield f"first sentence of train: {_example(train)}"
    yield from _doubts(train, scheme)
    for split, part in sentences.items():
        read = [part.note] if part.note and (split == "train" or part.note != train.note) else []
        read += [f"{numerals.count(part.skipped, 'line')} of comments or the like left out"] if part.skipped else []
        if part.left_out:
            predicted = ", also in its predictions" if split != "train" else ""
            read.append(f"{numerals.count(part.left_out, 'row')} without a sentence left out{predicted}")
        yield f"{split}: {_contents(part, scheme)}" + (f" ({'; '.join(read)})" if read else "")
        yield from _odd_words(split, part)
        yield from _unseen(split, part, scheme, train)
        yield from _lost(split, part, scheme, reaches[split])


def _example(part: tagged.Sentences) -> str:
    words, tags = part.words[0], (part.tags or [[]])[0]
    pairs = [f"{word}/{tag}" for word, tag in zip(words[:EXAMPLE], tags, strict=False)]
    return " ".join(pairs) + (" ..." if len(words) > EXAMPLE else "")


def _contents(part: tagged.Sentences, scheme: tag_schemes.Scheme) -> str:
    counts: Counter[str] = Counter()
    kind = "tags" if scheme.form == tag_schemes.WORDS else "entities"
    for tags in part.tags or []:
        counts.update(tags if kind == "tags" else [kind for kind, *_ in sorted(scheme.entities(tags), key=FIRST_WORD)])
    words = sum(map(len, part.words))
    total = f"{numerals.count(len(part.words), 'sentence')}, {numerals.count(words, 'word')}"
    if part.tags is None:
        return f"{total} without tags"
    if kind == "entities":
        total += f", {numerals.count(counts.total(), 'entity', 'entities')}"
    return f"{total}: {_listed(counts)}" if any(counts) else total


def _doubts(train: tagged.Sentences, scheme: tag_schemes.Scheme) -> Iterator[str]:
    """Yields warnings about tags of numbers, entities of one word each, and types nearly as frequent ones."""
    if scheme.form == tag_schemes.WORDS:
        if all(tag.isdigit() for tags in train.tags or [] for tag in tags):
            yield "warning: all tags are numbers, each of one word; write their names, as B-PER, if they mark entities"
        return
    marks = {tag.mark for tags in train.tags or [] for tag in map(scheme.parse, set(tags)) if tag}
    pairs = [(a, b) for tags in train.tags or [] for a, b in itertools.pairwise(tags)]
    touching = sum(a == b != tag_schemes.OUTSIDE for a, b in pairs)
    if marks == {"B", "O"} and touching >= TORN:
        yield (
            f"warning: train: no entity has a second word, but {touching:,} begin right behind one of their type; "
            "mark inner words by I"
        )
    # Parts of speech are often one letter apart, types of entities hardly.
    counts = Counter(parsed.type for tags in train.tags or [] for parsed in map(scheme.parse, tags) if parsed)
    for wrong, right in misspellings.find({kind: count for kind, count in counts.items() if kind}):
        place = next(seen.where for tag, seen in train.places().items() if (p := scheme.parse(tag)) and p.type == wrong)
        yield (
            f"warning: {place} has the type {wrong!r} ({numerals.count(counts[wrong], 'word')}), which is nearly "
            f"{right!r} ({numerals.count(counts[right], 'word')}); write them alike if they are one type"
        )


def _odd_words(split: str, part: tagged.Sentences) -> Iterator[str]:
    """Yields warnings about words that a program has changed, and about sentences that were torn into words."""
    words = Counter(word for sentence in part.words for word in sentence)
    for pattern, origin in ODD:
        if odd := [word for word in words if pattern.fullmatch(word)]:
            number = numerals.count(sum(words[word] for word in odd), "word")
            yield f"warning: {split}: {number} such as {odd[0]!r}, {origin}; write the words of the text"
    if len(part.words) >= TORN and all(len(sentence) == 1 for sentence in part.words):
        yield f"warning: {split}: every sentence has one word; put a blank line after each sentence, not each word"


def _listed(counts: Counter[str]) -> str:
    listed = [f"{name} {count:,}" for name, count in counts.most_common(LISTED)]
    return ", ".join(listed) + (f" and {len(counts) - LISTED} more" if len(counts) > LISTED else "")


def _unseen(split: str, part: tagged.Sentences, scheme: tag_schemes.Scheme, train: tagged.Sentences) -> Iterator[str]:
    """Yields a sentence about tags that train lacks."""
    known = {tag for tags in train.tags or [] for tag in tags}
    counts = Counter(tag for tags in part.tags or [] for tag in tags if tag not in known)
    types = {tag.type for tag in map(scheme.parse, known) if tag}
    other_form, missed = Counter[str](), Counter[str]()
    for tag, count in counts.items():
        parsed = scheme.parse(tag)
        (other_form if parsed and parsed.type in types else missed)[tag] += count
    if part.tags is not None and all(tag == tag_schemes.OUTSIDE for tags in part.tags for tag in tags):
        yield f"{split}: every tag is {tag_schemes.OUTSIDE}, so that its scores mean nothing"
    if missed:
        yield f"{split}: train lacks {_listed(missed)}; a model that cannot predict these tags is wrong there"
    if other_form:
        yield f"{split}: train lacks {_listed(other_form)}; entities are compared by their words and type"


def _lost(split: str, part: tagged.Sentences, scheme: tag_schemes.Scheme, reach: Reach) -> Iterator[str]:
    """Yields sentences about words that the model never sees."""
    total = sum(map(len, part.words))
    cut, seen = (sum(map(len, places)) for places in (reach.cut, reach.seen))
    if cut:
        entities = ""
        if part.tags is not None and scheme.form != tag_schemes.WORDS:
            spans = [scheme.entities(tags) for tags in part.tags]
            lost = sum(
                stop > min(places, default=stop)
                for places, row in zip(reach.cut, spans, strict=True)
                for *_, stop in row
            )
            entities = f", with {lost:,} of {sum(map(len, spans)):,} entities,"
        yield (
            f"{split}: {cut:,} of {total:,} words{entities} are behind the first {reach.max_length} tokens of their "
            "sentence and never seen"
        )
    if none := total - cut - seen:
        yield f"{split}: {none:,} of {total:,} words have no token and are never seen"
