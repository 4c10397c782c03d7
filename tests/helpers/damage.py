"""Damages files as a full disk, a broken copy or an editor does."""

import json

from bert_tpu.core import command

# JSON of another shape.
FOREIGN = (
    b"",
    b"null",
    b"7",
    b"[]",
    b"[1]",
    b"{}",
    b'"text"',
    b'{"a": {}}',
    b"\x00\x00",
    b"\xff\xfe{\x00}\x00",
    b"[" * 9999,
)


def cuts(path, every=1):
    """Yields each damaged content of the file: cut after every n-th byte, or of another shape. Restores the file."""
    whole = path.read_bytes()
    try:
        for raw in (*(whole[:size] for size in range(0, len(whole), every)), *FOREIGN, *_without_values(whole)):
            path.write_bytes(raw)
            yield raw
    finally:
        path.write_bytes(whole)


def _without_values(whole):
    """Yields the content of a JSON file with each value of its objects removed in turn, and replaced by null."""
    try:
        content = json.loads(whole)
    except ValueError:
        return  # JSON lines
    for parent in _objects(content):
        for key, value in list(parent.items()):
            parent[key] = None
            yield json.dumps(content).encode()
            del parent[key]
            yield json.dumps(content).encode()
            parent[key] = value


def _objects(content):
    """Yields all objects in JSON, the outer before the inner."""
    if isinstance(content, dict):
        yield content
    for child in list(content.values()) if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _objects(child)


def read_or_refused(read, path, every=1):
    """Damages the file `path` in each way and calls `read`, which may only return or raise a UserError that names it.

    Returns the number of times that it was refused by its name.
    """
    refused = 0
    for raw in cuts(path, every):
        try:
            read()
        except command.UserError as error:
            refused += path.name in str(error)
        except Exception as error:
            raise AssertionError(f"{path.name} with {raw!r}") from error
    return refused
