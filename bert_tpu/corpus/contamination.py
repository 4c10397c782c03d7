"""Detects test text of benchmarks in a corpus: a benchmark cannot judge a model that has read its test text.

A sentence counts as test text if it has a run of RUN tokens in common with a test sentence, or if it is equal to a test
sentence of SHORTEST tokens or more. Brown et al. 2020 (arXiv:2005.14165, appendix C) compare runs of 13 words, which
are about 16 tokens.
"""

from collections.abc import Callable, Iterable, Iterator
import os
from pathlib import Path
import re
from typing import NamedTuple

import numpy as np

from bert_tpu.core import command, hashing, numerals
from bert_tpu.corpus import benchmark_files, clean, sentences, store, wrapping

RUN, SHORTEST = 16, 8  # tokens
NAMED = 20  # files in a list
BLANK_LINES = re.compile(r"\n\s*\n")


class Passages(NamedTuple):
    """Hashes of test text: two sorted uint64 arrays."""

    runs: np.ndarray
    sentences: np.ndarray  # those shorter than a run


def gather(
    paths: Iterable[Path], encode: Callable[[list[str]], list[bytes]], normal_form: str = "NFC", language: str = ""
) -> tuple[Passages, dict[Path, int]]:
    """Returns the passages of benchmark files, and how many each file has: runs and shorter sentences.

    encode: turns sentences into ids, each as the bytes of uint16.
    normal_form: of clean.FORMS, as for the corpus: what it changes there must be the same here.
    language: for splitting sentences, as for the corpus.
    """
    runs, whole, counts = [], [], {}
    for path in paths:
        forms = (form for text in benchmark_files.texts(path) for form in _forms(clean.normal(text, normal_form)))
        codes = encode([sentence for form in forms for sentence in sentences.split(form, language)])
        lengths = np.array([len(code) // 2 for code in codes], np.int64)
        tokens = np.frombuffer(b"".join(codes), np.uint16)
        runs.append(hashing.hash_windows(tokens, lengths, RUN)[0])
        whole.append(np.concatenate([hashes for hashes, _ in _short(tokens, lengths)]))
        counts[path] = len(runs[-1]) + len(whole[-1])
    return Passages(*(np.unique(np.concatenate(hashes)) for hashes in (runs, whole))), counts


def _forms(text: str) -> Iterator[str]:
    """Yields a text as it is, and with the lines of each paragraph joined: a wrapped document of a corpus has it so."""
    yield text
    if "\n" in text:
        yield "\n".join(" ".join(paragraph.split()) for paragraph in BLANK_LINES.split(text))
        if (joined := wrapping.join(text)) is not text:  # without the hyphens at the ends of lines
            yield joined


def load(
    directory: str | os.PathLike,
    encode: Callable[[list[str]], list[bytes]],
    normal_form: str = "NFC",
    language: str = "",
) -> tuple[Passages, list[str]]:
    """Returns the passages of the benchmarks in a folder, and lines that tell a person what was read.

    The other arguments are those of `gather`. Raises UserError for a file that cannot be read, and if no file has a
    passage.
    """
    files = benchmark_files.find(directory)
    passages, counts = gather(files.test, encode, normal_form, language)
    if not any(counts.values()):
        raise command.UserError(
            f"--decontaminate {directory} holds no sentence of {SHORTEST} tokens or more: give files with the test "
            "text itself, not only with labels"
        )
    return passages, [
        f"test text of {directory}: {numerals.count(sum(counts.values()), 'passage')} (runs of {RUN} tokens, and "
        f"shorter sentences of {SHORTEST} or more) in {numerals.count(sum(map(bool, counts.values())), 'file')}",
        *_listed("passages", [f"{path.relative_to(directory)} {count:,}" for path, count in counts.items() if count]),
        *_listed("without a passage", [str(path.relative_to(directory)) for path in counts if not counts[path]]),
        *_listed("left out, training text", [str(path.relative_to(directory)) for path in files.training]),
        *_listed("left out, no test text", [str(path.relative_to(directory)) for path in files.other]),
    ]


def _listed(label: str, names: list[str]) -> list[str]:
    more = f", and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return [f"  {label}: {', '.join(names[:NAMED])}{more}"] if names else []


def is_test_text(passages: Passages, shard: store.Shard) -> np.ndarray:
    """Returns for each sentence of a shard whether it is test text, bool [S]."""
    hashes, rows = hashing.hash_windows(shard.tokens, shard.sentences, RUN)
    is_test = np.zeros(len(shard.sentences), bool)
    is_test[rows[_are_in(hashes, passages.runs)]] = True
    for hashes, rows in _short(shard.tokens, shard.sentences):
        is_test[rows[_are_in(hashes, passages.sentences)]] = True
    return is_test


def _are_in(hashes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Returns for each hash whether it is one of `known`, which are in ascending order.

    np.isin would sort millions of passages again for each part of the text.
    """
    if not len(known):
        return np.zeros(len(hashes), bool)
    places = np.searchsorted(known, hashes)
    return known[np.minimum(places, len(known) - 1)] == hashes


def _short(tokens: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields for each length from SHORTEST to RUN - 1 the hashes and the numbers of the sentences of this length."""
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    for length in range(SHORTEST, RUN):
        rows = np.flatnonzero(lengths == length)
        yield hashing.hash_runs(tokens, starts[rows], length), rows
