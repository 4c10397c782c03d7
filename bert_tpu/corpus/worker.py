"""A part of a corpus: some consecutive documents, cleaned and made into ids by one worker process.

part-00012-00003.safetensors, the fourth of unit 12, has the documents that are left, in a Shard's arrays, and for each
of them `source`, `piece`, `hash` and, where similar ones are looked for, `bands` and `sketches`. `origins` are here the
numbers of the documents in their unit, which the pieces of one share. part-00012-00003.json, written last, has the
counts.
"""

import collections
from collections.abc import Iterator
import functools
import itertools
import json
import math
import multiprocessing
import os
import signal
import threading
from typing import NamedTuple

from etils import epath
import numpy as np
import safetensors.numpy

from bert_tpu.core import storage
from bert_tpu.corpus import clean, contamination, duplicates, selection, sentences, store
from bert_tpu.readers import sources
from bert_tpu.tokenizer import encoding, vocab

BATCH_CHARS = 1 << 18  # of documents encoded at once: bounds a worker's memory
FILES = "part-*"  # those that `record` and `arrays` name
DTYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64}  # of safetensors, as parts have them
PASSAGES = "passages.safetensors"
# What is counted: documents changed, then documents (of test text also sentences) left out.
COUNTS = (
    "normalized", "licence_removed", "other_language", "empty_documents", "test_sentences", "test_documents",
    "short_documents",
)  # fmt: skip
SAMPLES, SAMPLE_CHARS = 2, 300  # of what a part leaves out, for each reason


class Options(NamedTuple):
    """What is done to the text, by the names of the command line; it decides the bytes of the corpus."""

    format: str = "auto"
    heldout: float = 0.01
    normal_form: str = "NFC"
    keep_licence: bool = False
    language: str = ""
    min_tokens: int = 1
    duplicates: str = "exact"
    similarity: float = 0.8
    mix: tuple[str, ...] = ()


class Books:
    """What became of the documents: counts by name, documents read by source, and samples of what was left out."""

    def __init__(self):
        self.counts: collections.Counter[str] = collections.Counter()
        self.read: collections.Counter[int] = collections.Counter()
        self.samples: dict[str, list[str]] = collections.defaultdict(list)

    def left_out(self, name: str, count: int, texts: Iterator[str]) -> None:
        """`count` documents or sentences were left out; a few of them are shown."""
        self.counts[name] += count
        held = self.samples[name]
        held += [text[:SAMPLE_CHARS] for text in itertools.islice(texts, SAMPLES - len(held))]


def name(unit: int, number: int) -> str:
    """What the files of a unit's part are called."""
    return f"part-{unit:05d}-{number:05d}"


def unit_of(name: str) -> int:
    """The number of the unit that a part belongs to, from the part's name."""
    return int(name.split("-")[1])


def record(out: str | epath.Path, name: str) -> epath.Path:
    """The file that says, once it exists, that a part is done, and what came of it."""
    return epath.Path(out) / f"{name}.json"


def is_done(out: str | epath.Path, name: str) -> bool:
    """Whether a part has its record."""
    return record(out, name).exists()


def arrays(out: str | epath.Path, name: str) -> epath.Path:
    """The file with the part's documents."""
    return epath.Path(out) / f"{name}.safetensors"


def load(out: str | epath.Path, name: str, *wanted: str) -> tuple[np.ndarray, ...]:
    """Some of a part's arrays; of `bands/3` the third band alone is read, also from a bucket."""
    with arrays(out, name).open("rb") as file:
        # https://huggingface.co/docs/safetensors: the header's length, the header, and the arrays' bytes.
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start, found = file.tell(), []
        for array, _, row in (each.partition("/") for each in wanted):
            shape, dtype = header[array]["shape"], np.dtype(DTYPES[header[array]["dtype"]])
            offset = header[array]["data_offsets"][0]
            if row:
                shape = shape[1:]
                offset += int(row) * math.prod(shape) * dtype.itemsize
            file.seek(start + offset)
            found.append(np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype).reshape(shape))
    return tuple(found)


def write(out: str, name: str, documents: list[sources.Document], options: Options) -> None:
    """The part's documents and then its record are in `out`; their bytes depend on nothing else.

    `out` holds the tokenizer and, if test text is to be taken out, its passages.
    """
    encoder, books = _encoder(out), Books()
    codes, counts, origin = [], [], []
    for document, found in _encode(encoder, documents, options, books):
        codes += found
        counts.append(len(found))
        origin.append((document.source, document.piece, document.number))
    source, piece, number = np.array(origin, np.uint32).reshape(-1, 3).T
    shard = store.Shard(
        tokens=np.frombuffer(b"".join(codes), np.uint16),
        sentences=np.fromiter(map(len, codes), np.uint32, len(codes)) // 2,
        documents=np.array(counts, np.uint32),
        origins=number,
    )
    shard, left = _without_tests(out, shard, encoder, books)
    source, piece = source[left], piece[left]
    long = selection.tokens_of(shard) >= options.min_tokens
    short = selection.documents(shard, np.flatnonzero(~long))
    books.left_out(
        "short_documents", len(short.documents), (text(encoder, short, i) for i in range(len(short.documents)))
    )
    shard, source, piece = selection.documents(shard, np.flatnonzero(long)), source[long], piece[long]
    held = shard._asdict() | {"source": source, "piece": piece.astype(np.uint8), "hash": duplicates.hashes(shard)}
    if options.duplicates == "near":
        held["sketches"] = duplicates.sketches(shard, held["hash"])
        held["bands"] = duplicates.bands(held["sketches"])
    storage.write_bytes(arrays(out, name), safetensors.numpy.save(held))
    told = {"counts": books.counts, "read": books.read, "samples": books.samples}
    storage.write_bytes(record(out, name), storage.json_bytes(told))


def _without_tests(out, shard, encoder, books):
    """The shard without the test text of benchmarks, and the numbers of the documents that are left."""
    passages = _passages(out)
    if passages is None:
        return shard, np.arange(len(shard.documents))
    dirty = contamination.found(passages, shard)
    clean_shard, left = selection.sentences(shard, ~dirty)
    starts = np.cumsum(shard.sentences, dtype=np.int64) - shard.sentences
    shown = (_decode(encoder, shard.tokens[starts[i] : starts[i] + shard.sentences[i]]) for i in np.flatnonzero(dirty))
    books.left_out("test_sentences", int(dirty.sum()), shown)
    books.counts["test_documents"] += len(shard.documents) - len(left)  # of which nothing is left
    return clean_shard, left


def text(encoder: encoding.Encoder, shard: store.Shard, number: int) -> str:
    """The start of a document, as its tokens tell it."""
    lengths = selection.tokens_of(shard)
    start = int(lengths[:number].sum())
    return _decode(encoder, shard.tokens[start : start + min(SAMPLE_CHARS, int(lengths[number]))])


def _decode(encoder, ids):
    return encoder.tokenizer.decode(ids.tolist(), skip_special_tokens=False)


def start() -> None:
    """Makes this process a worker: one thread of work, and no life of its own."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # After a kill -9 of the parent, a pool's workers would wait for work for ever.
    multiprocessing.parent_process().join()
    os._exit(1)


@functools.cache
def _encoder(out: str) -> encoding.Encoder:
    return encoding.Encoder(vocab.load(out))


@functools.cache
def _passages(out: str) -> contamination.Passages | None:
    path = epath.Path(out) / PASSAGES
    return contamination.Passages(**safetensors.numpy.load(path.read_bytes())) if path.exists() else None


def _encode(
    encoder: encoding.Encoder, documents: list[sources.Document], options: Options, books: Books
) -> Iterator[tuple[sources.Document, list[bytes]]]:
    """Each document that is left after cleaning, with the ids of those of its sentences that have any."""
    batch, texts, chars = [], [], 0
    for i, document in enumerate(documents):
        books.read[document.source] += 1
        plain = document.plain()
        cleaned = clean.clean(plain, options.normal_form, options.keep_licence, options.language)
        for name in cleaned.done:
            books.left_out(name, 1, iter([plain] if name == "other_language" else []))
        found = sentences.split(cleaned.text)
        batch.append((document, len(found)))
        texts += found
        chars += len(document.text)
        if chars >= BATCH_CHARS or i == len(documents) - 1:
            codes = iter(encoder.encode(texts))
            for member, count in batch:
                kept = [code for code in itertools.islice(codes, count) if code]
                if kept:
                    yield member, kept
                else:
                    books.counts["empty_documents"] += 1
            batch, texts, chars = [], [], 0
