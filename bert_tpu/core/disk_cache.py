"""Answers that took minutes to compute, stored on disk under a hash of the question."""

import contextlib
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any
import zlib

from bert_tpu.core import storage


class DiskCache:
    """Answers in `folder`, each a JSON object in a compressed file. If the folder is None, nothing is stored."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def get(self, question: str) -> dict[str, Any] | None:
        """The stored answer; None if there is none or its file is damaged, so that the caller computes it again."""
        try:
            return json.loads(gzip.decompress(_path(self.folder, question).read_bytes())) if self.folder else None
        except (OSError, EOFError, ValueError, zlib.error):
            return None

    def put(self, question: str, answer: dict[str, Any]) -> None:
        """Stores the answer. If the disk is full or write-protected, the answer is lost and nothing else happens."""
        if not self.folder:
            return
        with contextlib.suppress(OSError):
            storage.write_bytes(_path(self.folder, question), gzip.compress(json.dumps(answer).encode()))


def _path(folder: Path, question: str) -> Path:
    return folder / f"{hashlib.sha256(question.encode()).hexdigest()}.json.gz"


DISABLED = DiskCache(None)
