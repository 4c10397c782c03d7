"""What code a run has been trained by: its hosts agree on it, and W/versions.json keeps it."""

import functools
import hashlib
import json
import pathlib
import platform
import subprocess

from etils import epath
import jax
import jaxlib

import bert_tpu
from bert_tpu import places

FILE = "versions.json"
PACKAGE = pathlib.Path(__file__).parent


@functools.cache
def here(package=PACKAGE) -> dict[str, str]:
    """What must be equal on all hosts for their programs to be: this package's code, JAX and Python."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.read_bytes())
    return {
        "code": digest.hexdigest()[:16], "jax": jax.__version__, "jaxlib": jaxlib.__version__,
        "python": platform.python_version(),
    }  # fmt: skip


def note(directory, step):
    """W/versions.json of `directory` says what goes on from `step`, where that is not what its last entry has.

    Entries are as `here` has them, with `step`, the release as `bert_tpu`, and `commit`, None where nobody knows it.
    """
    path = epath.Path(directory) / FILE
    entries = read(directory)
    entry = {"bert_tpu": bert_tpu.__version__, "commit": commit(PACKAGE.parent)} | here()
    if not entries or entries[-1] | entry != entries[-1]:
        places.write_atomically(path, json.dumps([*entries, {"step": step} | entry], indent=1) + "\n")


def read(directory) -> list[dict]:
    """The entries of W/versions.json, the oldest first; [] where there is none, or no readable one."""
    path = epath.Path(directory) / FILE
    try:
        found = json.loads(path.read_text()) if path.exists() else []
    except ValueError:
        found = None
    return found if isinstance(found, list) else []  # nothing of a run hangs on it


def told(entry) -> str:
    """An entry in words."""
    commit = f"commit {entry['commit']}, " if entry["commit"] else ""
    return (
        f"bert_tpu {entry['bert_tpu']} ({commit}code {entry['code']}), JAX {entry['jax']}, Python {entry['python']}, "
        f"from step {entry['step']:,}"
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
