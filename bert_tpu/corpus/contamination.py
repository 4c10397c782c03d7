"""Test text of benchmarks, found again in a corpus: a model that has read it cannot be judged by it.

A sentence is taken for test text if it shares a run of RUN tokens with a test sentence, or is one, of SHORTEST tokens
or more. Brown et al. 2020 (arXiv:2005.14165, appendix C) compare runs of 13 words, about as many as 16 pieces.
"""

from collections.abc import Iterator
import csv
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bert_tpu.core import command, hashing
from bert_tpu.corpus import sentences

RUN, SHORTEST = 16, 8  # tokens
SUFFIXES = (".tsv", ".csv", ".json", ".jsonl", ".txt")


class Passages(NamedTuple):
    """uint64, sorted: hashes of the runs, and of the sentences that are shorter than a run."""

    runs: np.ndarray
    sentences: np.ndarray


def files(directory) -> list[Path]:
    """The benchmark's files below a directory, those of training left out. Raises UserError if there are none."""
    found = sorted(path for path in Path(directory).rglob("*") if path.suffix in SUFFIXES and "train" not in path.name)
    if not found:
        raise command.UserError(
            f"--decontaminate {directory} holds no test data: give a folder of {', '.join(SUFFIXES)} files "
            "(those with 'train' in their name are left out)"
        )
    return found


def gather(paths, encode) -> Passages:
    """The passages of benchmark files. encode: list of sentences -> list of uint16 bytes."""
    runs, whole = [], []
    for path in paths:
        codes = encode([sentence for text in _texts(path) for sentence in sentences.split(text)])
        lengths = np.array([len(code) // 2 for code in codes], np.int64)
        tokens = np.frombuffer(b"".join(codes), np.uint16)
        runs.append(hashing.hash_windows(tokens, lengths, RUN)[0])
        whole.append(np.concatenate([hashes for hashes, _ in _short(tokens, lengths)]))
    return Passages(*(np.unique(np.concatenate(found)) for found in (runs, whole)))


def found(passages, shard) -> np.ndarray:
    """Which sentences of a shard are test text, [S] bool."""
    hashes, rows = hashing.hash_windows(shard.tokens, shard.sentences, RUN)
    dirty = np.zeros(len(shard.sentences), bool)
    dirty[rows[np.isin(hashes, passages.runs)]] = True
    for hashes, rows in _short(shard.tokens, shard.sentences):
        dirty[rows[np.isin(hashes, passages.sentences)]] = True
    return dirty


def _short(tokens, lengths):
    """(hashes, rows) of the sentences of each length from SHORTEST to below RUN."""
    starts = np.cumsum(lengths, dtype=np.int64) - lengths
    for length in range(SHORTEST, RUN):
        rows = np.flatnonzero(lengths == length)
        yield hashing.hash_runs(tokens, starts[rows], length), rows


def _texts(path) -> Iterator[str]:
    """Every text of a file: lines, fields, or the strings in JSON."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        if path.suffix in (".json", ".jsonl"):
            try:
                for record in [file.read()] if path.suffix == ".json" else filter(str.strip, file):
                    yield from _strings(json.loads(record))
            except ValueError as fault:
                raise command.UserError(f"{path} is no JSON ({fault}): mend it or take it out") from None
        elif path.suffix == ".csv":
            for row in csv.reader(file):
                yield from row
        else:
            for line in file:
                yield from line.rstrip("\r\n").split("\t")


def _strings(value) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for one in value.values():
                yield from _strings(one)
        case list():
            for one in value:
                yield from _strings(one)
