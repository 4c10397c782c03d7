"""Hashes of batches, and of runs of tokens."""

import hashlib

import numpy as np

FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so that multiplying loses nothing: 2^64 over the golden ratio


def hash_runs(tokens, starts, width) -> np.ndarray:
    """uint64, a hash of tokens[start : start + width] for each of `starts`."""
    value = np.full(len(starts), width, np.uint64)
    for place in range(width):
        value = value * FACTOR + tokens[starts + place]
    # The finalizer of MurmurHash3: the last tokens would change the low bits alone.
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ (value >> np.uint64(33))) * np.uint64(factor)
    return value ^ (value >> np.uint64(33))


def hash_windows(tokens, lengths, width) -> tuple[np.ndarray, np.ndarray]:
    """(hashes, rows) of every run of `width` tokens that lies within one of the consecutive rows of `lengths`."""
    counts = np.maximum(lengths.astype(np.int64) - width + 1, 0)
    rows = np.repeat(np.arange(len(lengths)), counts)
    first = np.cumsum(lengths, dtype=np.int64) - lengths
    starts = np.repeat(first - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    return hash_runs(tokens, starts, width), rows


def batch_sha256(batch) -> str:
    """Of a global batch: its arrays' int32 bytes, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(batch):
        digest.update(np.ascontiguousarray(batch[name], dtype="<i4"))
    return digest.hexdigest()
