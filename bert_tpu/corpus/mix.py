"""Decides how often each source is read: --mix sets epochs, or shares of the training tokens."""

from collections.abc import Sequence
import fnmatch
import math
from typing import NamedTuple

import numpy as np

from bert_tpu.core import command, hashing, numerals

MOST_MISSED = 0.05  # of the tokens that an entry asks for; more is worth a warning


class Entry(NamedTuple):
    """One word of --mix. The sources whose path matches `pattern` get `epochs`, or together `share` of the tokens."""

    pattern: str
    epochs: float | None
    share: float | None


def parse(words: Sequence[str]) -> list[Entry]:
    """Parses `GLOB=2` (epochs, also fractions) or `GLOB=30%`. Raises UserError for another word or a mixture."""
    entries = []
    for word in words:
        pattern, equals, value = word.rpartition("=")
        try:
            number = float(value.removesuffix("%"))
            is_valid = bool(equals and pattern) and math.isfinite(number) and number >= 0
        except ValueError:
            is_valid = False
        if not is_valid:
            raise command.UserError(
                f"--mix {word} is neither GLOB=EPOCHS nor GLOB=SHARE%; write '*wiki*=1', for example"
            )
        entries.append(Entry(pattern, *((None, number / 100) if value.endswith("%") else (number, None))))
    shares = [entry.share for entry in entries if entry.share is not None]
    if shares and (len(shares) < len(entries) or not math.isclose(sum(shares), 1, abs_tol=1e-6) or not all(shares)):
        raise command.UserError("--mix: shares must all be above 0%, add up to 100%, and not be mixed with epochs")
    return entries


def match(entries: Sequence[Entry], paths: Sequence[str]) -> list[int | None]:
    """Returns the number of each source's entry: the first whose pattern matches its path, or None if none does.

    Raises UserError for an entry that no source has. With shares, raises it for a source without an entry.
    """
    matched = [_matched(entry.pattern, paths) for entry in entries]
    of_path = [next((i for i, own in enumerate(matched) if path in own), None) for path in paths]
    for i, entry in enumerate(entries):
        if i not in of_path:
            raise command.UserError(
                f"--mix: no source is left for {entry.pattern!r}; fix it, or move it before the pattern that takes its "
                f"sources (the first sources are {', '.join(paths[:5])})"
            )
    if _has_shares(entries) and None in of_path:
        raise command.UserError(f"--mix: {paths[of_path.index(None)]} has no share; set one for every source")
    return of_path


def _matched(pattern: str, paths: Sequence[str]) -> set[str]:
    """Returns the paths that a pattern means: the file of that name if there is one, as for --input."""
    if pattern in paths:
        return {pattern}
    found = {path for path in paths if fnmatch.fnmatch(path, pattern)}
    return found or {path for path in paths if fnmatch.fnmatch(path, pattern.replace("[", "[[]"))}


def epochs(entries: Sequence[Entry], paths: Sequence[str], tokens: np.ndarray) -> np.ndarray:
    """Returns how often each source is read, float [sources]; 1 where no entry matches.

    entries: the parsed --mix.
    paths: of the sources.
    tokens: of each source, [sources]; only needed for shares.

    With shares, the source that has the least text compared with its share is read most often, and the one that has the
    most is read once. Raises UserError like `match`, and for an entry whose sources have no tokens.
    """
    of_path = match(entries, paths)
    if not _has_shares(entries):
        return np.array([1.0 if i is None else entries[i].epochs for i in of_path])
    entry_of = np.array(of_path, np.int64)  # no None: `match` refuses sources without a share
    entry_tokens = np.bincount(entry_of, tokens, len(entries))
    if not all(entry_tokens):
        empty = entries[int(np.argmin(entry_tokens))].pattern
        raise command.UserError(f"--mix: nothing is left of {empty!r} that could have a share; remove its entry")
    needed = np.array([entry.share for entry in entries]) / entry_tokens
    return (needed / needed.min())[entry_of]


def known_epochs(entries: Sequence[Entry], paths: Sequence[str]) -> np.ndarray:
    """Returns how often each source is read as far as --mix alone says it, float [sources]; 1 for each with shares.

    Of copies in several sources the one that is read most often must stay: a copy in a source that is read 0 times
    would take the others with it. Arguments and errors are those of `epochs`.
    """
    return np.ones(len(paths)) if _has_shares(entries) else epochs(entries, paths, np.zeros(len(paths)))


def _has_shares(entries: Sequence[Entry]) -> bool:
    return bool(entries) and entries[0].share is not None


def copies(hashes: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Returns how often each document comes, int32 [D]. Its hash decides whether it is in the fraction of an epoch.

    hashes: of the documents' tokens, uint64 [D].
    epochs: of each document's source, float [D].
    """
    chance = (hashes * hashing.FACTOR) / 2.0**64  # multiplied, because the hash itself already decides on the split
    return np.floor(epochs).astype(np.int32) + (chance < epochs - np.floor(epochs))


def misses(
    entries: Sequence[Entry], paths: Sequence[str], source: np.ndarray, wanted: np.ndarray, got: np.ndarray
) -> list[str]:
    """Returns a warning for each entry whose part of an epoch has another size, as with a few large documents.

    entries, paths: as for `epochs`.
    source: of each document, int [D].
    wanted, got: training tokens of each document, all copies together, [D].
    """
    of_path = np.array([-1 if i is None else i for i in match(entries, paths)], np.int64)
    found = []
    for i, entry in enumerate(entries):
        own = (of_path[source] == i) & (wanted > 0)
        aim, tokens = wanted[own].sum(), int(got[own].sum())
        if abs(tokens - aim) > MOST_MISSED * aim:
            number = numerals.count(int(own.sum()), "document or piece", "documents or pieces")
            found.append(
                f"--mix {entry.pattern!r}: {tokens:,} training tokens instead of {round(aim):,}, because {number} "
                "must be taken whole: a whole number of epochs is exact"
            )
    return found
