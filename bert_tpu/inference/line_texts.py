"""Refuses JSON and tables where a text on each line is wanted: braces and keys would be read as text."""

from collections.abc import Iterable, Iterator
import itertools
import json
import os
import re

from bert_tpu.core import command

JSON = re.compile(r"\.(json|jsonl|ndjson|ldjson|jl)$")
TABLE = re.compile(r"\.(csv|tsv|tab|psv)$")
BEGINNING = 5  # lines that show JSON
STDIN = "-"


def name(source: str | os.PathLike) -> str:
    """Returns what messages call a source: its path, or stdin for "-"."""
    return "stdin" if source == STDIN else os.fspath(source)


def checked(lines: Iterable[bytes], source: str | os.PathLike) -> Iterator[bytes]:
    """Yields `lines`, of the file `source` or of stdin if that is "-". Raises UserError if they are JSON or a table."""
    _check_name(name(source))
    rest = iter(lines)
    beginning = list(itertools.islice(rest, BEGINNING))
    texts = [line.strip().removeprefix(b"\xef\xbb\xbf") for line in beginning]
    if _is_json(texts):
        _refuse_json(name(source))
    yield from itertools.chain(beginning, rest)


def _check_name(path: str) -> None:
    if JSON.search(path.lower()):
        _refuse_json(path)
    if TABLE.search(path.lower()):
        raise command.UserError(
            f"{path} is a table by its name, and a text on each line is wanted: write the column with the texts to a "
            ".txt, without its head"
        )


def _is_json(texts: list[bytes]) -> bool:
    """Returns whether the first lines hold an object or array of JSON each, or begin one over several lines."""
    filled = [text for text in texts if text]
    if len(filled) > 1 and filled[0] in (b"{", b"[", b"[{") and filled[1].startswith((b"{", b"[", b'"')):
        return True
    return bool(filled) and all(map(_is_whole, filled))


def _is_whole(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


def _refuse_json(path: str) -> None:
    raise command.UserError(
        f"{path} is JSON, and a text on each line is wanted: write the texts to a .txt, by "
        """jq -r '.text | gsub("\\n"; " ")' OLD > NEW.txt"""
    )
