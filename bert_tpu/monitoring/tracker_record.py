"""The record of what each tracker has of a run, and the names of a line's values in trackers."""

from collections.abc import Mapping
import hashlib
import json
import os
import threading
import time
from typing import Any

from etils import epath

from bert_tpu.core import json_files, storage

FILE = "trackers.json"
SHAPE = {str: {"id": str, "step": int, "tags": [str]}}
LABELS = ("kind", "seq_len", "split", "seed")  # keys of a line that say what its values are about
WRITE_S, BUCKET_S = 1, 30  # between two writes of trackers.json, here and in a bucket

Line = Mapping[str, Any]  # of metrics.jsonl


def tag(line: Line) -> str:
    """The group of a line's values, such as train_128."""
    return "_".join(str(line[key]) for key in LABELS if key in line)


def values(line: Line) -> dict[str, float]:
    """A line's values by their names in trackers, such as train_128/loss."""
    return {f"{tag(line)}/{name}": value for name, value in line.items() if name not in (*LABELS, "step")}


class Record:
    """W/trackers.json: the run of each tracker, and the last line that it took."""

    def __init__(self, workdir: str | os.PathLike, config: Mapping[str, Any], first_step: int):
        """Reads the file if there is one. A run that begins again with another config gets new records.

        config: dotted keys of the run's config, with values
        first_step: the step that this start resumes from
        """
        self._path, self._lock, self._is_changed = epath.Path(workdir) / FILE, threading.Lock(), False
        self._within_s = BUCKET_S if storage.is_bucket(workdir) else WRITE_S
        self._config = hashlib.sha256(json.dumps(dict(config), sort_keys=True, default=str).encode()).hexdigest()
        self._content = {
            name: entry
            for name, entry in json_files.read_if_any(self._path, SHAPE).items()
            if first_step or entry.get("config", self._config) == self._config
        }
        self._written_s = 0.0

    def run_id(self, name: str) -> str:
        """The id of a tracker's run; "" for a new one."""
        return self._content.get(name, {"id": ""})["id"]

    def has_taken(self, name: str, line: Line) -> bool:
        """Returns whether a tracker has this line, perhaps from a run that was killed after it."""
        entry = self._content.get(name, {"step": -1, "tags": []})
        return line["step"] < entry["step"] or (line["step"] == entry["step"] and tag(line) in entry["tags"])

    def open(self, name: str, run_id: str) -> None:
        """Notes a tracker's run."""
        with self._lock:
            new = {"step": -1, "tags": [], "config": self._config}
            self._content[name] = new | self._content.get(name, {}) | {"id": run_id}
            self._is_changed = True
        self.write(within_s=0)

    def take(self, name: str, line: Line) -> None:
        """Notes that a tracker has taken a line."""
        with self._lock:
            entry = self._content[name]
            tags = entry["tags"] if entry["step"] == line["step"] else []
            self._content[name] = entry | {"step": line["step"], "tags": [*tags, tag(line)]}
            self._is_changed = True
        self.write(self._within_s)

    def write(self, within_s: float) -> str:
        """Writes the file if it has changed, unless it was written less than `within_s` seconds ago.

        Returns the reason if it cannot be written, else "". Training goes on, and the next call tries again.
        """
        with self._lock:
            if not self._is_changed or time.monotonic() - self._written_s < within_s:
                return ""
            self._written_s = time.monotonic()
            try:
                storage.write_text(self._path, json.dumps(self._content, indent=1) + "\n")
            except Exception as fault:  # each kind of store raises its own
                return " ".join(str(fault).split())[:300]
            self._is_changed = False
            return ""
