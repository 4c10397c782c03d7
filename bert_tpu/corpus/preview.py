"""Looks at the beginnings of some sources before hours are spent: warnings, and documents as they are trained on."""

import collections
from collections.abc import Iterator, Sequence
import itertools
import os
import random
import re
from typing import NamedTuple

import numpy as np
import tokenizers

from bert_tpu.core import command, numerals
from bert_tpu.corpus import clean, contamination, language_notes, store, worker, wrapping
from bert_tpu.readers import sources, suspicions, wiki_markup
from bert_tpu.tokenizer import encoding, normalization

CHECKED = 4  # sources that are checked; one on the Hub costs seconds
CHECKED_CHARS = 1 << 18  # of each of these
SAMPLED = 16  # sources at most from which documents are drawn
SAMPLED_CHARS = 1 << 20  # of each of these
ONE_DOCUMENT = 32 << 20  # characters without a blank line; no document of one file among several is so long
FEW = 50  # documents that say little about all
FEW_MARKED = 5  # documents that suffice to judge from markup and escapes, which are certain where they are seen
FEW_PARAGRAPHS = 5  # documents of a file, each of which may be a paragraph of a wrapped text
FEW_LINES, ONE_LINE, SHORT = 20, 0.8, 5  # documents, the share of one line, and their median sentences: paragraphs
LINES = 200  # documents of a file whose sentences are counted for this
GAPS = 3  # names of templates that are printed
SHOWN, SHOWN_CHARS = 30, 600  # sentences of a document, and characters of a sentence, that are printed


class Sight(NamedTuple):
    """Counts of the documents at the beginnings of some files."""

    total: int  # with a sentence
    counts: collections.Counter[str]  # documents by what is odd in them: a key of ODD
    tokens: int
    unknown: int  # tokens that are [UNK]


ODD = {  # what is odd -> (fewest documents, share of them from which on it is named, what to say: [one|several])
    "single": (FEW, 0.5, f"[has|have] one sentence; {store.ONE_SENTENCE}"),
    "unsplit": (FEW, 0.1, "[has|have] a sentence of more than 1,000 characters: look at documents with --sample 20"),
    "html": (FEW_MARKED, 0.2, "[has|have] HTML tags: extract the text first, for example with trafilatura"),
    "escaped": (FEW_MARKED, 0.2, "[has|have] \\n in two characters where lines end: unescape it by json.loads"),
    "tokenized": (FEW_MARKED, 0.2, "[has|have] marks of a tokenizer (@-@, -LRB-, @@, ▁, ##): take the raw text"),
    "tagged": (FEW_MARKED, 0.2, "[has|have] tags at the words (The/DT, The_DT, trees): take the words alone"),
    "lost": (FEW_MARKED, 0.2, "[has|have] <unk> in place of words: take the raw form of the data"),
    "forms": (1, 0.1, "[has|have] ligatures such as ﬁ or other special letters, which make other words: "
              "--normal_form NFKC writes them as letters"),
    "spelled": (FEW_MARKED, 0.2, "[has|have] \\u0421 or the like for letters: unescape it by json.loads"),
}  # fmt: skip
LONG_WORD = re.compile(rf"\S{{{normalization.GOOGLE_RULES.max_chars + 1},}}")  # is [UNK] in any vocabulary
UNKNOWN = 0.05  # share of [UNK] from which on it is named


def check(files: Sequence[sources.Source], options: worker.Options, encoder: encoding.Encoder) -> list[str]:
    """Returns warnings about the documents at the beginning of some of the files.

    Raises UserError for plain text without blank lines, which would be one document, and for files that cannot be read.
    """
    wrapped, paragraphs, plains = "", "", []
    articles = []
    for number in _checked(files):
        documents = list(_beginning(files[number], number, options))
        if sources.form(files[number], options.format) == "text":
            _check_blank_lines(files, number, options, documents)
            if len(documents) >= FEW_PARAGRAPHS and wrapping.are_paragraphs([document.text for document in documents]):
                wrapped = wrapped or files[number].path
            elif _are_paragraphs(documents, options):
                paragraphs = paragraphs or files[number].path
        for document in documents:
            plains.append(document.plain())
            if document.is_markup:
                articles.append((files[number].path, document.text, plains[-1]))
    sight = _look(plains, options, encoder)
    warnings = wiki_markup.notes(articles)
    if wrapped:
        warnings.append(
            f"the lines of {wrapped} are wrapped, and each of its paragraphs is a document, because blank lines end "
            "documents: if a file is a document, give --format file"
        )
    odd = [
        name
        for name, (least, share, _) in ODD.items()
        if sight.total >= least and sight.counts[name] > share * sight.total
    ]
    if paragraphs and "single" not in odd:
        warnings.append(
            f"most documents of {paragraphs} are one line of few sentences, as blank lines end documents: if they "
            "are the paragraphs of longer texts, give --format file (a file is a document), or put a line "
            "<|endoftext|> after each text"
        )
    first = f"of the first {numerals.count(sight.total, 'document')}"
    warnings += [f"{(n := sight.counts[name]):,} {first} {numerals.inflect(n, ODD[name][-1])}" for name in odd]
    if sight.unknown > UNKNOWN * sight.tokens:
        warnings.append(
            f"{sight.unknown / sight.tokens:.0%} of the first {numerals.count(sight.tokens, 'token')} are [UNK]: train "
            "a vocabulary on this text (bert-tpu train-tokenizer)"
        )
    notes = (language_notes.language_note(plains, options.language), language_notes.marks_note(plains, encoder))
    return [*warnings, *filter(None, notes)]


def beginnings(files: Sequence[sources.Source], options: worker.Options) -> list[sources.Document]:
    """Returns the documents at the beginnings of some of the files."""
    return [document for number in _checked(files) for document in _beginning(files[number], number, options)]


def _checked(files: Sequence[sources.Source]) -> list[int]:
    """Returns the numbers of some files. Empty ones, such as Spark's _SUCCESS, show nothing."""
    numbers = _filled(files)
    return numbers[:: -(-len(numbers) // CHECKED)]


def _filled(files: Sequence[sources.Source]) -> list[int]:
    """Returns the numbers of the files that are not empty; of all if all are."""
    return [number for number, file in enumerate(files) if file.bytes] or [*range(len(files))]


def _are_paragraphs(documents: list[sources.Document], options: worker.Options) -> bool:
    """Returns whether the documents of a file are rather the paragraphs of a text with a paragraph a line."""
    some = documents[:: -(-len(documents) // LINES) or 1]
    if len(some) < FEW_LINES or sum("\n" not in document.text for document in some) < ONE_LINE * len(some):
        return False
    counts = [len(_sentences(document.text, options)[0]) for document in some]
    return float(np.median(counts)) <= SHORT


def _look(plains: list[str], options: worker.Options, encoder: encoding.Encoder) -> Sight:
    total, counts, texts = 0, collections.Counter[str](), []
    for plain in plains:
        found, changes = _sentences(plain, options)
        total += bool(found)
        counts["single"] += len(found) == 1
        counts["unsplit"] += "unsplit_documents" in changes
        counts.update(suspicions.notations(plain))
        counts["forms"] += options.normal_form != "NFKC" and bool(suspicions.FORMS.search(plain))
        counts["spelled"] += bool(language_notes.SPELLED.search(plain))
        texts += [LONG_WORD.sub("", sentence) for sentence in found]
    ids = np.frombuffer(b"".join(encoder.encode(texts)), encoder.dtype)
    return Sight(total, counts, len(ids), int(np.count_nonzero(ids == encoder.unknown)))


def _check_blank_lines(
    files: Sequence[sources.Source], number: int, options: worker.Options, documents: list[sources.Document]
) -> None:
    """Raises UserError if a file of plain text is one document. documents: those at its beginning."""
    is_piece = any(document.piece for document in documents[:1])
    if any(document.number for document in documents) or not (is_piece or len(files) == 1):
        return
    size = 0  # a first document may be long: then the file is read until a second one begins
    for document in _beginning(files[number], number, options, ONE_DOCUMENT):
        size += len(document.text)
        if document.number:
            return
    if size >= ONE_DOCUMENT or (size and len(files) == 1):
        raise command.UserError(
            f"{files[number].path} has no blank line and so is one document: put a blank line between documents (if "
            "each line is one, by sed G OLD > NEW), or give several files with --format file if each is a document"
        )


def _beginning(
    source: sources.Source, number: int, options: worker.Options, chars: int = CHECKED_CHARS
) -> Iterator[sources.Document]:
    """Yields the first documents of a source, until they have `chars` characters."""
    counts = sources.Counts()
    for document in sources.documents(
        [source], counts, text_format=options.format, column=options.column, first=number
    ):
        yield document
        chars -= len(document.text)
        if chars <= 0:
            return


def _sentences(plain: str, options: worker.Options) -> tuple[list[str], tuple[str, ...]]:
    return clean.to_sentences(plain, options.normal_form, options.keep_licence, options.language)


class Sampler(NamedTuple):
    """The settings with which documents are shown."""

    options: worker.Options
    encoder: encoding.Encoder
    passages: contamination.Passages | None = None  # test text, which is left out

    def lines(self, files: Sequence[sources.Source], count: int) -> Iterator[str]:
        """Yields lines that show `count` documents, drawn at random from the beginnings of some of the files.

        The same files give the same documents. Of all kinds of files, by folder and suffix, some are read.
        """
        numbers = _draw_sources(files, count)
        drawn = [self._draw(files[number], number, count) for number in numbers]
        taken = [document for round_ in itertools.zip_longest(*drawn) for document in round_ if document][:count]
        yield (
            f"{numerals.count(len(taken), 'document')}, drawn from the first {SAMPLED_CHARS >> 20} MiB of text of "
            f"{len(numbers):,} of {numerals.count(len(files), 'source')}; duplicates and --mix act on all, later"
        )
        for document in sorted(taken, key=lambda document: (document.source, document.number)):
            yield from self._show(document, files[document.source].path)

    def _draw(self, source: sources.Source, number: int, count: int) -> list[sources.Document]:
        """Returns up to `count` documents at the beginning of a source, in random order."""
        draw = random.Random(f"{number} {source.path}")
        ranked = [(draw.random(), document) for document in _beginning(source, number, self.options, SAMPLED_CHARS)]
        return [document for _, document in sorted(ranked, key=lambda pair: pair[0])[:count]]

    def _show(self, document: sources.Document, path: str) -> Iterator[str]:
        plain = document.plain()
        found, changes = _sentences(plain, self.options)
        tokens = [self.encoder.tokenizer.encode(sentence, add_special_tokens=False) for sentence in found]
        notes = [name.replace("_", " ") for name in changes]
        if document.is_markup:
            notes.append(f"markup removed: {len(document.text) - len(plain):,} of {len(document.text):,} characters")
        if gaps := document.gaps():
            names = ", ".join(f"{{{{{name}}}}} {count}" for name, count in collections.Counter(gaps).most_common(GAPS))
            notes.append(f"gaps in sentences where templates were: {len(gaps):,} ({names})")
        sizes = [len(code.ids) for code in tokens]
        if sum(sizes) < self.options.min_tokens:
            notes.append(f"left out: fewer than {self.options.min_tokens} tokens")
        yield ""
        name = f"{path}, document {document.number + 1:,}{' (a piece)' if document.piece else ''}"
        read = f"{numerals.count(sum(map(bool, sizes)), 'sentence')}, {numerals.count(sum(sizes), 'token')}"
        yield "; ".join([f"{name}: {read}", *notes])
        if not found and plain.strip():
            yield f"      {' '.join(plain.split())[:SHOWN_CHARS]}"
        is_test = self._is_test([code.ids for code in tokens])
        unknown: dict[str, None] = {}
        for i, (sentence, code) in enumerate(zip(found, tokens, strict=True)):
            unknown |= dict.fromkeys(_unknown(sentence, code, self.encoder.unknown))
            if i < SHOWN:
                text = " ".join(code.tokens) or "(no token)"
                rest = f" ... {len(text):,} characters" if len(text) > SHOWN_CHARS else ""
                yield f"{i + 1:4}  {'(test text, left out) ' if is_test[i] else ''}{text[:SHOWN_CHARS]}{rest}"
        if len(found) > SHOWN:
            yield f"      ... and {numerals.count(len(found) - SHOWN, 'more sentence')}"
        if unknown:
            yield f"      [UNK] is {' '.join(list(unknown)[:20])}"[:SHOWN_CHARS]

    def _is_test(self, codes: list[list[int]]) -> np.ndarray:
        if self.passages is None or not codes:
            return np.zeros(len(codes), bool)
        lengths = np.array([len(code) for code in codes], np.uint32)
        tokens = np.array(list(itertools.chain.from_iterable(codes)), np.uint16)
        return contamination.is_test_text(
            self.passages, store.Shard(tokens, lengths, np.array([len(codes)], np.uint32), np.zeros(1, np.uint32))
        )


def _unknown(sentence: str, code: tokenizers.Encoding, unknown: int) -> Iterator[str]:
    """Yields the text of each [UNK] in a sentence."""
    for token, (start, end) in zip(code.ids, code.offsets, strict=True):
        if token == unknown:
            yield sentence[start:end][:40]


def _draw_sources(files: Sequence[sources.Source], count: int) -> list[int]:
    """Returns the numbers of up to SAMPLED files, of each kind in turn: of each folder and suffix."""
    kinds: dict[tuple[str, str], list[int]] = {}
    for number in random.Random(0).sample(numbers := _filled(files), len(numbers)):
        folder, name = os.path.split(files[number].path)
        kinds.setdefault((folder, os.path.splitext(name)[1]), []).append(number)
    turns = itertools.zip_longest(*(kinds[kind] for kind in sorted(kinds)))
    return [number for turn in turns for number in turn if number is not None][: min(count, SAMPLED)]
