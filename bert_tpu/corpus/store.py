"""A prepared corpus on disk: shards of token ids, a copy of the tokenizer, and a lockfile.

    corpus.json               the lockfile, written last: where it is, the corpus is finished
    train-00000.safetensors   shards of the training split, each an even sample of it (dealing.py)
    heldout-00000.safetensors shards of the held-out split
    vocab.txt tokenizer.json tokenizer_config.json

A shard holds four arrays: `tokens` uint16 [N], without special tokens; `sentences` uint32 [S],
the tokens of each sentence; `documents` uint32 [D], the sentences of each document; `origins`
uint32 [D], the number of the text that each document comes from. No sentence and no document is
empty. Copies of a text, and the pieces of one that was cut, have one origin.
"""

from collections.abc import Sequence
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from etils import epath
import numpy as np
import safetensors.numpy

from bert_tpu.core import command, progress, storage
from bert_tpu.tokenizer import vocab

FORMAT = 2  # 1, before version 0.2, had no origins, and a shard for each part of the input
LOCKFILE = "corpus.json"
SPLITS = ("train", "heldout")
REMEDY = "fetch the corpus again or delete it and run tools.prepare_corpus"


class Shard(NamedTuple):
    """Documents as four arrays; the lengths of `sentences` add up to the length of `tokens`."""

    tokens: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    origins: np.ndarray


DTYPES = Shard(tokens=np.uint16, sentences=np.uint32, documents=np.uint32, origins=np.uint32)


class ShardInfo(NamedTuple):
    """What the lockfile says of a shard."""

    file: str
    sha256: str
    bytes: int
    documents: int
    texts: int  # origins that differ
    sentences: int
    tokens: int


class Lock(NamedTuple):
    """A finished corpus: where it is, and the content of its lockfile."""

    directory: epath.Path  # which may be in a bucket
    content: dict

    @property
    def sha256(self) -> str:
        """The hash of the whole corpus, over the tokenizer and every shard."""
        return self.content["sha256"]

    @property
    def tokenizer_sha256(self) -> str:
        """`vocab.sha256` of the tokenizer that made the corpus."""
        return self.content["tokenizer"]["sha256"]

    @property
    def vocab_size(self) -> int:
        """The number of pieces; every id is below it."""
        return self.content["tokenizer"]["vocab_size"]

    @property
    def unigram_entropy(self) -> float:
        """Of the training tokens, in nats: the loss of a model that knows only frequencies."""
        return self.content["train"]["unigram_entropy"]

    @property
    def splits(self) -> dict[str, list[ShardInfo]]:
        """The shards of "train" and of "heldout", in the order of the input."""
        return {split: [ShardInfo(**shard) for shard in self.content[split]["shards"]] for split in SPLITS}


def digest(content: dict) -> str:
    """The SHA-256 over what a lockfile says of the tokenizer and of every shard."""
    covered = [content["tokenizer"], *(content[split]["shards"] for split in SPLITS)]
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def read(directory: str | Path) -> Lock:
    """The corpus in `directory`. Raises UserError if it is missing, unfinished or altered."""
    directory = epath.Path(directory)
    path = directory / LOCKFILE
    if not path.is_file():
        what = "is not finished (no corpus.json)" if directory.is_dir() else "does not exist"
        raise command.UserError(f"corpus {directory} {what}; run tools.prepare_corpus with --out {directory}")
    try:
        content = json.loads(path.read_text())
        lock, version = Lock(directory, content), content["format"]
        sound = lock.sha256 == digest(content)
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise command.UserError(f"{path} is damaged; {REMEDY}")
    if version != FORMAT:
        raise command.UserError(
            f"{directory} is a corpus of format {version} and this version reads format {FORMAT}; prepare it again "
            "from its text with tools.prepare_corpus and another --out"
        )
    if vocab.sha256(vocab.load(directory)) != lock.tokenizer_sha256:
        raise command.UserError(f"the tokenizer in {directory} is not the one that made the corpus; {REMEDY}")
    return lock


def load(lock: Lock, infos: Sequence[ShardInfo]) -> Shard:
    """The shards that `infos` names, one after the other, as one.

    Raises UserError for a shard that is missing or does not match its SHA-256, and for ids that
    the vocabulary does not have. Needs the memory of the result and of one shard.
    """
    tokens, sentences, documents = (
        sum(getattr(info, name) for info in infos) for name in ("tokens", "sentences", "documents")
    )
    whole = Shard(*map(np.empty, (tokens, sentences, documents, documents), DTYPES))
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
            f"shard {path} holds id {shard.tokens.max()}, past its vocabulary of {lock.vocab_size}; {REMEDY}"
        )
    return shard


def copy(lock: Lock, out: str | epath.Path) -> Lock:
    """The corpus is also in `out`, in a bucket for one; its lockfile is written last."""
    out = epath.Path(out)
    if (out / LOCKFILE).exists() and read(out).sha256 != lock.sha256:
        raise command.UserError(f"{out} holds another corpus; name another --out or delete it")
    out.mkdir(parents=True, exist_ok=True)
    paths = sorted(lock.directory.iterdir(), key=lambda path: path.name == LOCKFILE)
    sizes = [path.stat().length for path in paths]
    with progress.bar(sum(sizes), f"to {out}") as shown:
        for path, size in zip(paths, sizes, strict=True):
            (out / path.name).write_bytes(path.read_bytes())
            shown.update(size)
    return read(out)


def write_shard(path: str | Path, shard: Shard) -> ShardInfo:
    """The shard is at `path`, whole and on disk, or `path` is as it was before."""
    raw = safetensors.numpy.save(
        {
            name: np.ascontiguousarray(array, dtype)
            for name, array, dtype in zip(Shard._fields, shard, DTYPES, strict=True)
        }
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
