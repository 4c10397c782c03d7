"""Versions of the code that trains a run: all hosts compare them, and W/versions.json keeps them."""

import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
from typing import Any

from etils import epath

import bert_tpu
from bert_tpu.core import command, json_files, storage

FILE = "versions.json"
SHAPE = [{"step": int, "bert_tpu": str, "commit": object, "code": str, "jax": str, "python": str}]
# The libraries that decide a batch's bytes, a program and a checkpoint: import name -> names of its distributions.
LIBRARIES = {
    "jax": ("jax",), "jaxlib": ("jaxlib",), "numpy": ("numpy",), "tensorflow": ("tensorflow-cpu", "tensorflow"),
    "optax": ("optax",), "flax": ("flax",), "orbax": ("orbax-checkpoint",),
}  # fmt: skip
PACKAGE = pathlib.Path(bert_tpu.__file__).parent


@functools.cache
def current(package: pathlib.Path = PACKAGE) -> dict[str, str | None]:
    """Versions that must match on all hosts, so that their batches and programs match.

    They are a hash of this package's code, Python, and the LIBRARIES (None for one that is not installed). The function
    reads the libraries' metadata and imports none of them.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    libraries = {name: _installed_version(distributions) for name, distributions in LIBRARIES.items()}
    return {"code": digest.hexdigest()[:16], "python": platform.python_version()} | libraries


def _installed_version(distributions: tuple[str, ...]) -> str | None:
    """The version of the first of `distributions` that is installed; None if none is."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def record(directory: str | os.PathLike, step: int, settings: dict[str, Any] | None = None) -> None:
    """Adds the versions that train the run from `step` to W/versions.json, unless the last entry has the same.

    An entry has `step`, the release as `bert_tpu`, `commit` (None if unknown), the versions of `current`, and
    `settings`: dotted keys of the config that change how a step is computed.
    """
    path = epath.Path(directory) / FILE
    try:
        entries = read(directory)
    except command.UserError as error:  # training does not depend on the file: a later reader gets what is left
        print(f"warning: {command.sentence(error)}; it is now {FILE}.damaged", file=sys.stderr)
        path.rename(path.with_name(f"{FILE}.damaged"))
        entries = []
    entry: dict[str, Any] = (
        {"bert_tpu": bert_tpu.__version__, "commit": commit(PACKAGE.parent)} | current() | (settings or {})
    )
    if not entries or entries[-1] | entry != entries[-1]:
        storage.write_text(path, json.dumps([*entries, {"step": step} | entry], indent=1) + "\n")


def read(directory: str | os.PathLike) -> list[dict[str, Any]]:
    """The entries of W/versions.json, the oldest first; [] if there is no file. Raises UserError if it is damaged."""
    path = epath.Path(directory) / FILE
    return json_files.read(path, SHAPE) if path.exists() else []


def describe(entry: dict[str, Any]) -> str:
    """An entry of W/versions.json in words."""
    commit = f"commit {entry['commit']}, " if entry["commit"] else ""
    settings = "".join(f"{key} {json.dumps(value)}, " for key, value in entry.items() if "." in key)
    return (
        f"bert_tpu {entry['bert_tpu']} ({commit}code {entry['code']}), JAX {entry['jax']}, Python {entry['python']}, "
        f"{settings}from step {entry['step']:,}"
    )


@functools.cache
def commit(checkout: pathlib.Path) -> str | None:
    """The commit of a git checkout, or of a folder that launch/ unpacked from one; None if unknown.

    The hash ends in "-dirty" if files of the checkout differ from the commit.
    """
    if (checkout / "COMMIT").exists():
        return (checkout / "COMMIT").read_text().strip()
    if not (checkout / ".git").exists():
        return None  # the package is installed; a folder above it may be a checkout of something else
    words = ["git", "-C", str(checkout), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
