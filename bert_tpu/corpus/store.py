"""A prepared corpus on disk: shards of token ids, a copy of the tokenizer, and a lockfile.

    corpus.json               the lockfile, written last: a corpus with a lockfile is finished
    train-00000.safetensors   shards of the training split, each an even sample of it (dealing.py)
    heldout-00000.safetensors shards of the evaluation split
    vocab.txt tokenizer.json tokenizer_config.json

A shard has four arrays:

    tokens     uint16 [N]  token ids, without special tokens
    sentences  uint32 [S]  number of tokens of each sentence
    documents  uint32 [D]  number of sentences of each document
    origins    uint32 [D]  number of the text that each document comes from

No sentence and no document is empty. All copies of a text, and all pieces of a text that was cut, have the same origin.
"""

from collections.abc import Sequence
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath
import numpy as np
import safetensors.numpy

from bert_tpu.core import aligned, command, json_files, progress, storage
from bert_tpu.tokenizer import vocab

FORMAT = 2  # 1, before version 0.2, had no origins, and a shard for each part of the input
LOCKFILE = "corpus.json"
PLAN = "prepare.json"  # only in an unfinished corpus
SPLITS = ("train", "heldout")
ONE_SENTENCE = (
    "next sentence prediction needs two or more: give whole documents (in plain text a blank line ends one; with "
    "--format file a file is one), or train without it (--config mlm)"
)
REMEDY = "fetch the corpus again or delete it and run bert-tpu prepare"


class Shard(NamedTuple):
    """Documents as four arrays, described above. `sentences` adds up to N, and `documents` to S."""

    tokens: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    origins: np.ndarray


DTYPES: dict[str, np.dtype] = {
    "tokens": np.dtype(np.uint16),
    "sentences": np.dtype(np.uint32),
    "documents": np.dtype(np.uint32),
    "origins": np.dtype(np.uint32),
}


class ShardInfo(NamedTuple):
    """A shard's entry in the lockfile."""

    file: str
    sha256: str
    bytes: int  # size of the file
    documents: int
    texts: int  # different origins
    sentences: int
    tokens: int


SHAPE = {
    "sha256": str,
    "tokenizer": {"sha256": str, "vocab_size": int},
    "train": {"shards": [ShardInfo.__annotations__], "unigram_entropy": float},
    "heldout": {"shards": [ShardInfo.__annotations__]},
}


class Lock(NamedTuple):
    """A finished corpus: its directory and the content of its lockfile."""

    directory: epath.Path  # may be in a bucket
    content: dict[str, Any]

    @property
    def sha256(self) -> str:
        """The SHA-256 of the whole corpus: of its tokenizer and all its shards."""
        return self.content["sha256"]

    @property
    def tokenizer_sha256(self) -> str:
        """The `vocab.sha256` of the corpus's tokenizer."""
        return self.content["tokenizer"]["sha256"]

    @property
    def vocab_size(self) -> int:
        """The size of the vocabulary; every token id is smaller."""
        return self.content["tokenizer"]["vocab_size"]

    @property
    def unigram_entropy(self) -> float:
        """The entropy of the training tokens' frequencies, in nats: the loss of a model that knows only these."""
        return self.content["train"]["unigram_entropy"]

    @property
    def pair_warning(self) -> str:
        """A sentence if most training documents are too short for next sentence prediction, else "".

        A corpus of an older release does not know.
        """
        train = self.content["train"]
        single = train.get("single_sentence_documents", 0)
        if single * 2 <= train["documents"]:
            return ""
        return f"{single:,} of {train['documents']:,} training documents have one sentence; {ONE_SENTENCE}"

    @property
    def splits(self) -> dict[str, list[ShardInfo]]:
        """The shards of "train" and of "heldout", in the order of their numbers."""
        return {split: [ShardInfo(**shard) for shard in self.content[split]["shards"]] for split in SPLITS}


def digest(content: dict[str, Any]) -> str:
    """Returns the SHA-256 over a lockfile's entries for the tokenizer and all shards."""
    covered = [content["tokenizer"], *(content[split]["shards"] for split in SPLITS)]
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def read(directory: str | os.PathLike) -> Lock:
    """Reads the lockfile of the corpus in `directory`; the shards are only checked when they are loaded.

    directory: of the corpus, or its lockfile.

    Raises UserError if the corpus is missing, unfinished, of another format or altered.
    """
    folder = epath.Path(directory)
    folder = folder.parent if folder.name == LOCKFILE else folder
    path = folder / LOCKFILE
    if not path.is_file():
        if folder.is_dir() and not (folder / PLAN).is_file() and any(folder.iterdir()):
            raise command.UserError(
                f"{folder} is not a corpus, it has no {LOCKFILE}: give the --out of bert-tpu prepare"
            )
        problem = f"is not finished (no {LOCKFILE})" if folder.is_dir() else "does not exist"
        raise command.UserError(f"corpus {folder} {problem}; run bert-tpu prepare with --out {folder}")
    content = json_files.read(path, {"format": int}, remedy=REMEDY)
    if content["format"] != FORMAT:
        raise command.UserError(
            f"{folder} is a corpus of format {content['format']} and this version reads format {FORMAT}; prepare it "
            "again from its text with bert-tpu prepare and another --out"
        )
    lock = Lock(folder, content)
    if json_files.misfit(content, SHAPE) or lock.sha256 != digest(content):
        raise command.UserError(f"{path} is damaged: {REMEDY}")
    if vocab.sha256(vocab.load(folder)) != lock.tokenizer_sha256:
        raise command.UserError(
            f"the tokenizer in {folder} is not the one that the corpus was tokenized with; {REMEDY}"
        )
    return lock


def check_sizes(lock: Lock) -> None:
    """Raises UserError for a shard of a local corpus that is cut. It takes less time than the hashes.

    A host of a pod may lack the shards of other hosts.
    """
    if storage.is_bucket(lock.directory):
        return
    for info in (info for infos in lock.splits.values() for info in infos):
        path = lock.directory / info.file
        if path.exists() and (size := path.stat().length) != info.bytes:
            raise command.UserError(f"shard {path} is damaged: it has {size:,} bytes, not {info.bytes:,}; {REMEDY}")


def load(lock: Lock, infos: Sequence[ShardInfo]) -> Shard:
    """Reads the shards of `infos` and joins them, in this order, into one Shard.

    Raises UserError for a shard that is missing or does not match its SHA-256, and for token ids that
    the vocabulary does not have. Needs the memory of the result and of one shard.
    """
    tokens, sentences, documents = (
        sum(getattr(info, name) for info in infos) for name in ("tokens", "sentences", "documents")
    )
    whole = Shard(*map(aligned.empty, (tokens, sentences, documents, documents), DTYPES.values()))
    start = [0] * len(whole)
    for info in infos:
        shard = _load_one(lock, info)
        for i, array in enumerate(shard):
            whole[i][start[i] : start[i] + len(array)] = array
            start[i] += len(array)
    return whole


def _load_one(lock: Lock, info: ShardInfo) -> Shard:
    path = lock.directory / info.file
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise command.UserError(f"shard {path} is missing; {REMEDY}") from None
    if hashlib.sha256(raw).hexdigest() != info.sha256:
        raise command.UserError(f"shard {path} is damaged: its SHA-256 differs from corpus.json's; {REMEDY}")
    shard = Shard(**safetensors.numpy.load(raw))
    if len(shard.tokens) and shard.tokens.max() >= lock.vocab_size:
        raise command.UserError(
            f"shard {path} has token id {shard.tokens.max()}, but its vocabulary has {lock.vocab_size} ids; {REMEDY}"
        )
    return shard


def copy(lock: Lock, out: str | os.PathLike) -> Lock:
    """Copies a corpus to `out`, which may be in a bucket, the lockfile last, and returns the copy.

    Raises UserError if `out` has another corpus.
    """
    target = epath.Path(out)
    if (target / LOCKFILE).exists() and read(target).sha256 != lock.sha256:
        raise command.UserError(f"{target} holds another corpus; name another --out or delete it")
    target.mkdir(parents=True, exist_ok=True)
    paths = sorted(lock.directory.iterdir(), key=lambda path: path.name == LOCKFILE)
    sizes = [path.stat().length for path in paths]
    with progress.bar(sum(sizes), f"to {target}") as bar:
        for path, size in zip(paths, sizes, strict=True):
            (target / path.name).write_bytes(path.read_bytes())
            bar.update(size)
    return read(target)


def write_shard(path: str | os.PathLike, shard: Shard) -> ShardInfo:
    """Writes a shard to `path`, whole or not at all, and returns its entry for the lockfile."""
    raw = safetensors.numpy.save(
        {name: np.ascontiguousarray(array, dtype) for (name, dtype), array in zip(DTYPES.items(), shard, strict=True)}
    )
    storage.write_bytes(path, raw)
    return ShardInfo(
        file=Path(path).name,
        sha256=hashlib.sha256(raw).hexdigest(),
        bytes=len(raw),
        documents=len(shard.documents),
        texts=len(np.unique(shard.origins)),
        sentences=len(shard.sentences),
        tokens=len(shard.tokens),
    )
