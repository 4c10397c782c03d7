"""What code a run has been trained by: its hosts agree on it, and W/versions.json keeps it."""

import functools
import hashlib
import importlib.metadata
import json
import pathlib
import platform
import subprocess

from etils import epath

import bert_tpu
from bert_tpu.core import storage

FILE = "versions.json"
# What makes a batch's bytes, a program and a checkpoint, each by the names of its distributions.
LIBRARIES = {
    "jax": ("jax",), "jaxlib": ("jaxlib",), "numpy": ("numpy",), "tensorflow": ("tensorflow-cpu", "tensorflow"),
    "optax": ("optax",), "flax": ("flax",), "orbax": ("orbax-checkpoint",),
}  # fmt: skip
PACKAGE = pathlib.Path(bert_tpu.__file__).parent


@functools.cache
def current(package=PACKAGE) -> dict[str, str]:
    """Versions that must match on all hosts, for their batches and programs to match.

    They are a hash of this package's code, the LIBRARIES (None for one that is not installed) and Python. Nothing is
    imported for them.
    """
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    libraries = {name: _installed(distributions) for name, distributions in LIBRARIES.items()}
    return {"code": digest.hexdigest()[:16], "python": platform.python_version()} | libraries


def _installed(distributions):
    """The version of the first of `distributions` that is installed; None where none is."""
    for name in distributions:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def record(directory, step, settings=None):
    """Adds to W/versions.json what the run goes on with from `step`, unless that is what the last entry has.

    An entry has `step`, the release as `bert_tpu`, `commit` (None where nobody knows it), all of `here`, and
    `settings`: dotted keys of the config that change how a step is computed.
    """
    path = epath.Path(directory) / FILE
    entries = read(directory)
    entry = {"bert_tpu": bert_tpu.__version__, "commit": commit(PACKAGE.parent)} | current() | (settings or {})
    if not entries or entries[-1] | entry != entries[-1]:
        storage.write_text(path, json.dumps([*entries, {"step": step} | entry], indent=1) + "\n")


def read(directory) -> list[dict]:
    """The entries of W/versions.json, the oldest first; [] where there is none, or no readable one."""
    path = epath.Path(directory) / FILE
    try:
        found = json.loads(path.read_text()) if path.exists() else []
    except ValueError:
        found = None
    return found if isinstance(found, list) else []  # nothing of a run hangs on it


def describe(entry) -> str:
    """An entry in words."""
    commit = f"commit {entry['commit']}, " if entry["commit"] else ""
    settings = "".join(f"{key} {json.dumps(value)}, " for key, value in entry.items() if "." in key)
    return (
        f"bert_tpu {entry['bert_tpu']} ({commit}code {entry['code']}), JAX {entry['jax']}, Python {entry['python']}, "
        f"{settings}from step {entry['step']:,}"
    )


@functools.cache
def commit(checkout) -> str | None:
    """Of a folder that is a git checkout, or that launch/ unpacked from one; "-dirty" behind it where files differ."""
    if (checkout / "COMMIT").exists():
        return (checkout / "COMMIT").read_text().strip()
    if not (checkout / ".git").exists():
        return None  # installed; a folder above may be a checkout of something else
    words = ["git", "-C", str(checkout), "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
