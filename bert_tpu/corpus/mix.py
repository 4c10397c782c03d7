"""How often each source is read: given as epochs, or as its share of the training tokens."""

import fnmatch
import math
from typing import NamedTuple

import numpy as np

from bert_tpu.core import command, hashing


class Entry(NamedTuple):
    """One word of --mix: sources whose path matches `pattern` get `epochs`, or `share` of the tokens together."""

    pattern: str
    epochs: float | None
    share: float | None


def parse(words) -> list[Entry]:
    """`GLOB=2` (epochs, fractions too) or `GLOB=30%`. Raises UserError for what is neither, or mixes the two."""
    entries = []
    for word in words:
        pattern, equals, value = word.rpartition("=")
        try:
            number = float(value.removesuffix("%"))
            sound = bool(equals and pattern) and math.isfinite(number) and number >= 0
        except ValueError:
            sound = False
        if not sound:
            raise command.UserError(f"--mix {word} is neither GLOB=EPOCHS nor GLOB=SHARE%: give '*wiki*=1', for one")
        entries.append(Entry(pattern, *((None, number / 100) if value.endswith("%") else (number, None))))
    shares = [entry.share for entry in entries if entry.share is not None]
    if shares and (len(shares) < len(entries) or not math.isclose(sum(shares), 1, abs_tol=1e-6) or not all(shares)):
        raise command.UserError("--mix: shares must all be above 0%, add up to 100%, and not stand beside epochs")
    return entries


def has_shares(entries: list[Entry]) -> bool:
    """Whether the sources have shares of the tokens, which then must be known."""
    return bool(entries) and entries[0].share is not None


def match(entries, paths) -> list[int | None]:
    """The number of the entry that each source goes by, the first that matches its path; None where none does.

    Raises UserError for an entry that no source goes by, and with shares for a source without one.
    """
    of_path = [next((i for i, e in enumerate(entries) if fnmatch.fnmatch(path, e.pattern)), None) for path in paths]
    for i, entry in enumerate(entries):
        if i not in of_path:
            raise command.UserError(f"--mix: no source is left for {entry.pattern!r}; the sources are {paths[:5]}")
    if has_shares(entries) and None in of_path:
        raise command.UserError(f"--mix: {paths[of_path.index(None)]} has no share; give one to every source")
    return of_path


def epochs(entries, paths, tokens) -> np.ndarray:
    """How often each source is read; 1 where no entry matches. tokens: of each source, if there are shares.

    With shares, the source that has the most text for its share is read once. Raises UserError as `match`.
    """
    of_path = match(entries, paths)
    if not has_shares(entries):
        return np.array([1.0 if i is None else entries[i].epochs for i in of_path])
    held = np.bincount(of_path, tokens, len(entries))
    if not all(held):
        empty = entries[int(np.argmin(held))].pattern
        raise command.UserError(f"--mix: nothing is left of {empty!r} to have a share of")
    wanted = np.array([entry.share for entry in entries]) / held
    return (wanted / wanted.min())[of_path]


def copies(hashes, epochs) -> np.ndarray:
    """How often each document comes: of a fraction of an epoch a document's hash decides."""
    chance = (hashes * hashing.FACTOR) / 2.0**64  # the hash itself decides on the split already
    return np.floor(epochs).astype(np.int64) + (chance < epochs - np.floor(epochs))
