"""Answers that took minutes to get, kept on disk under a hash of the question."""

import gzip
import hashlib
import json
import os
from pathlib import Path
import tempfile


class Kept:
    """Answers in `folder`, each a JSON object in a compressed file; none are kept where the folder is None."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def get(self, question: str) -> dict | None:
        """The answer; None where there is none or its file is damaged, so that it is asked for again."""
        try:
            return json.loads(gzip.decompress(self._path(question).read_bytes())) if self.folder else None
        except (OSError, EOFError, ValueError, gzip.zlib.error):
            return None

    def put(self, question: str, answer: dict) -> None:
        """Keeps it. A disk that is full or not ours to write on costs the answer's keeping, nothing else."""
        if not self.folder:
            return
        path = self._path(question)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                file.write(gzip.compress(json.dumps(answer).encode()))
            os.replace(file.name, path)
        except OSError:
            pass

    def _path(self, question):
        return self.folder / f"{hashlib.sha256(question.encode()).hexdigest()}.json.gz"


NOWHERE = Kept(None)
