"""Answers that took minutes to get, kept on disk under a hash of the question."""

import contextlib
import gzip
import hashlib
import json
from pathlib import Path
import zlib

from bert_tpu.core import storage


class DiskCache:
    """Answers in `folder`, each a JSON object in a compressed file; none are kept where the folder is None."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def get(self, question: str) -> dict | None:
        """The answer; None where there is none or its file is damaged, so that it is asked for again."""
        try:
            return json.loads(gzip.decompress(self._path(question).read_bytes())) if self.folder else None
        except (OSError, EOFError, ValueError, zlib.error):
            return None

    def put(self, question: str, answer: dict) -> None:
        """Keeps it. A disk that is full or not ours to write on costs the answer's keeping, nothing else."""
        if not self.folder:
            return
        with contextlib.suppress(OSError):
            storage.write_bytes(self._path(question), gzip.compress(json.dumps(answer).encode()))

    def _path(self, question):
        return self.folder / f"{hashlib.sha256(question.encode()).hexdigest()}.json.gz"


DISABLED = DiskCache(None)
