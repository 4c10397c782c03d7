"""Hashes of batches, and of runs of tokens."""

from collections.abc import Mapping
import hashlib

import numpy as np

FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing: 2^64 over the golden ratio


def hash_runs(tokens: np.ndarray, starts: np.ndarray, width: int) -> np.ndarray:
    """uint64, the hash of tokens[start : start + width] for each of `starts`."""
    value = np.full(len(starts), width, np.uint64)
    for place in range(width):
        value = value * FACTOR + tokens[starts + place]
    # The finalizer of MurmurHash3. Without it the last tokens would change only the low bits.
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ (value >> np.uint64(33))) * np.uint64(factor)
    return value ^ (value >> np.uint64(33))


def hash_windows(tokens: np.ndarray, lengths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, row numbers) of every run of `width` tokens that is inside one row.

    tokens: uint16, the rows one after the other
    lengths: tokens of each row
    """
    counts = np.maximum(lengths.astype(np.int64) - width + 1, 0)
    rows = np.repeat(np.arange(len(lengths)), counts)
    first = np.cumsum(lengths, dtype=np.int64) - lengths
    starts = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    return hash_runs(tokens, starts, width), rows


def batch_sha256(batch: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of a global batch: of its arrays' bytes as int32, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(batch):
        digest.update(np.ascontiguousarray(batch[name], dtype="<i4").data)
    return digest.hexdigest()
