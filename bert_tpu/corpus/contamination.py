"""Detects test text of benchmarks in a corpus: a benchmark cannot judge a model that has read its test text.

A sentence counts as test text if it has a run of RUN tokens in common with a test sentence, or if it is equal to a test
sentence of SHORTEST tokens or more. Brown et al. 2020 (arXiv:2005.14165, appendix C) compare runs of 13 words, which
are about 16 tokens.
"""

from collections.abc import Callable, Iterable, Iterator
import csv
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bert_tpu.core import command, hashing
from bert_tpu.corpus import sentences, store

RUN, SHORTEST = 16, 8  # tokens
SUFFIXES = (".tsv", ".csv", ".json", ".jsonl", ".txt")


class Passages(NamedTuple):
    """Hashes of test text: two sorted uint64 arrays."""

    runs: np.ndarray
    sentences: np.ndarray  # those shorter than a run


def files(directory: str | os.PathLike) -> list[Path]:
    """Returns the benchmark files below a directory, without training files. Raises UserError if there are none."""
    paths = sorted(path for path in Path(directory).rglob("*") if path.suffix in SUFFIXES and "train" not in path.name)
    if not paths:
        raise command.UserError(
            f"--decontaminate {directory} holds no test data: name a folder of {', '.join(SUFFIXES)} files "
            "(files with 'train' in their name are left out)"
        )
    return paths


def gather(paths: Iterable[Path], encode: Callable[[list[str]], list[bytes]], language: str = "") -> Passages:
    """Returns the passages of benchmark files.

    encode: turns sentences into ids, each as the bytes of uint16.
    language: for splitting sentences, as for the corpus.
    """
    runs, whole = [], []
    for path in paths:
        codes = encode([sentence for text in _texts(path) for sentence in sentences.split(text, language)])
        lengths = np.array([len(code) // 2 for code in codes], np.int64)
        tokens = np.frombuffer(b"".join(codes), np.uint16)
        runs.append(hashing.hash_windows(tokens, lengths, RUN)[0])
        whole.append(np.concatenate([hashes for hashes, _ in _short(tokens, lengths)]))
    return Passages(*(np.unique(np.concatenate(hashes)) for hashes in (runs, whole)))


def is_test_text(passages: Passages, shard: store.Shard) -> np.ndarray:
    """Returns for each sentence of a shard whether it is test text, bool [S]."""
    hashes, rows = hashing.hash_windows(shard.tokens, shard.sentences, RUN)
    is_test = np.zeros(len(shard.sentences), bool)
    is_test[rows[np.isin(hashes, passages.runs)]] = True
    for hashes, rows in _short(shard.tokens, shard.sentences):
        is_test[rows[np.isin(hashes, passages.sentences)]] = True
    return is_test


def _short(tokens: np.ndarray, lengths: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields for each length from SHORTEST to RUN - 1 the hashes and the numbers of the sentences of this length."""
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    for length in range(SHORTEST, RUN):
        rows = np.flatnonzero(lengths == length)
        yield hashing.hash_runs(tokens, starts[rows], length), rows


def _texts(path: Path) -> Iterator[str]:
    """Yields every text of a file: its lines, its fields, or the strings in its JSON."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        if path.suffix in (".json", ".jsonl"):
            try:
                for record in [file.read()] if path.suffix == ".json" else filter(str.strip, file):
                    yield from _strings(json.loads(record))
            except ValueError as fault:
                raise command.UserError(f"{path} is not valid JSON ({fault}): fix it or remove it") from None
        elif path.suffix == ".csv":
            for row in csv.reader(file):
                yield from row
        else:
            for line in file:
                yield from line.rstrip("\r\n").split("\t")


def _strings(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for member in value.values():
                yield from _strings(member)
        case list():
            for member in value:
                yield from _strings(member)
