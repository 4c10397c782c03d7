"""One run's directory: it belongs to one config and to one process group at a time."""

import fcntl
import json
import os
import pathlib

from bert_tpu import command

# What may change between two starts of a run: none of it alters a parameter.
FREE = ("log", "eval", "checkpoint", "profile", "compile_cache")


def claim(directory, config):
    """Makes `directory` this run's own: writes config.json, or checks the one that is there.

    config: plain nested dictionary. Returns the open lock file; the claim holds while it is open.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    lock = open(directory / ".lock", "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise command.UserError(f"another run is using {directory}: stop it or give another --workdir") from None
    path = directory / "config.json"
    config = json.loads(json.dumps(config))
    if path.exists():
        _compare(_read(path), config, directory)
    write_atomically(path, json.dumps(config, indent=1, sort_keys=True) + "\n")
    return lock


def read_config(directory) -> dict:
    """The config of the run in `directory`."""
    path = pathlib.Path(directory) / "config.json"
    if not path.exists():
        raise command.UserError(f"{directory} holds no run: it has no config.json; give the --workdir of a pretraining")
    return _read(path)


def write_atomically(path, text):
    """`path` holds `text`, or what it held before."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


def _read(path):
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise command.UserError(f"{path} is damaged ({error}): restore it or give another --workdir") from None


def _compare(old, new, directory):
    held, given = _flat(old), _flat(new)
    for key in sorted(held.keys() | given.keys()):
        if key.split(".")[0] not in FREE and held.get(key) != given.get(key):
            raise command.UserError(
                f"{directory} belongs to another config: {key} is {held.get(key)!r} there and {given.get(key)!r} here; "
                "give another --workdir, or that value"
            )


def _flat(tree, prefix=""):
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
