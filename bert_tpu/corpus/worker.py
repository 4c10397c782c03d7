"""Parts of a corpus: one worker process cleans and tokenizes some consecutive documents and writes them to two files.

part-00012-00003.safetensors, the fourth part of unit 12, has the documents that are left, as the arrays of a Shard, and
for each document `source`, `piece` and `hash`, and with --duplicates near also `bands` and `sketches`. Here, `origins`
are the numbers of the documents in their unit; the pieces of one document have the same number.
part-00012-00003.json has the counts. It is written last: a part with this file is finished.
"""

import collections
from collections.abc import Iterable, Iterator
import functools
import gc
import itertools
import json
import math
import os
from typing import NamedTuple

from etils import epath
import numpy as np
import safetensors.numpy

from bert_tpu.core import storage, worker_process
from bert_tpu.corpus import clean, contamination, duplicates, selection, store
from bert_tpu.readers import sources, wiki_markup
from bert_tpu.tokenizer import encoding, vocab

BATCH_CHARS = 1 << 18  # characters of the documents that are encoded at once: bounds a worker's memory
FILES = "part-*"  # matches the files of `record_path` and `arrays_path`
DTYPES = {"U8": np.uint8, "U16": np.uint16, "U32": np.uint32, "U64": np.uint64}  # the safetensors types used in parts
PASSAGES = "passages.safetensors"
# Names of the counts. The first line counts changed documents, and those with a sentence of more than sentences.LONGEST
# characters; the others count documents, each once, or sentences, that are left out.
CHANGES = ("normalized", "licence_removed", "lines_joined", "unsplit_documents")
COUNTS = (
    *CHANGES,
    "other_language", "empty_documents", "test_sentences", "test_documents",
    "short_documents",
)  # fmt: skip
SAMPLED = ("other_language", "unsplit_documents")
SAMPLES, SAMPLE_CHARS = 2, 300  # samples that a part stores for each reason to leave text out, and their length


class Options(NamedTuple):
    """Settings for the text, named like the options of bert-tpu prepare. They decide the bytes of the corpus."""

    format: str = "auto"
    column: str = "text"
    heldout: float = 0.01
    normal_form: str = "NFC"
    keep_licence: bool = False
    language: str = ""
    min_tokens: int = 1
    duplicates: str = "exact"
    similarity: float = 0.8
    mix: tuple[str, ...] = ()


class Tally:
    """Counts of a part by name, documents and markup read by source, and samples of the text left out by reason."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.read: collections.Counter[int] = collections.Counter()
        self.samples: dict[str, list[str]] = collections.defaultdict(list)
        self.markup: dict[int, collections.Counter[str]] = {}

    def read_document(self, document: sources.Document, plain: str) -> None:
        """Counts a document that was read, and its markup. plain: its text without markup."""
        self.read[document.source] += 1
        if document.is_markup:
            self.markup.setdefault(document.source, collections.Counter()).update(
                wiki_markup.count(document.text, plain)
            )

    def leave_out(self, reason: str, count: int, texts: Iterable[str]) -> None:
        """Counts documents or sentences that are left out and stores the beginnings of the first few of `texts`."""
        self.counts[reason] += count
        samples = self.samples[reason]
        samples += [text[:SAMPLE_CHARS] for text in itertools.islice(texts, SAMPLES - len(samples))]


def part_name(unit: int, number: int) -> str:
    """Returns the name of a unit's part, which its files have too."""
    return f"part-{unit:05d}-{number:05d}"


def unit_of(part: str) -> int:
    """Returns the number of the unit that a part belongs to, from the part's name."""
    return int(part.split("-")[1])


def record_path(out: str | os.PathLike, part: str) -> epath.Path:
    """Returns the path of a part's record: the file of its counts, which exists once the part is finished."""
    return epath.Path(out) / f"{part}.json"


def is_done(out: str | os.PathLike, part: str) -> bool:
    """Returns whether a part is finished."""
    return record_path(out, part).exists()


def arrays_path(out: str | os.PathLike, part: str) -> epath.Path:
    """Returns the path of the file with a part's documents."""
    return epath.Path(out) / f"{part}.safetensors"


def load(out: str | os.PathLike, part: str, *names: str) -> tuple[np.ndarray, ...]:
    """Returns some of a part's arrays. The name `bands/3` reads only row 3 of `bands`, also from a bucket."""
    with arrays_path(out, part).open("rb") as file:
        # https://huggingface.co/docs/safetensors: the header's length, the header, and the arrays' bytes.
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        start, arrays = file.tell(), []
        for name, _, row in (name.partition("/") for name in names):
            shape, dtype = header[name]["shape"], np.dtype(DTYPES[header[name]["dtype"]])
            offset = header[name]["data_offsets"][0]
            if row:
                shape = shape[1:]
                offset += int(row) * math.prod(shape) * dtype.itemsize
            file.seek(start + offset)
            arrays.append(np.frombuffer(file.read(math.prod(shape) * dtype.itemsize), dtype).reshape(shape))
    return tuple(arrays)


def write(out: str, part: str, documents: list[sources.Document], options: Options) -> None:
    """Cleans and tokenizes documents and writes them as a part. Its bytes depend only on the arguments and on two files
    in `out`: the tokenizer, and the passages of the benchmarks whose test text is left out, if there are any.

    out: folder of the unfinished corpus.
    part: name of the part.
    """
    encoder, tally = _encoder(out), Tally()
    codes, counts, rows = [], [], []
    for document, document_codes in _encode(encoder, documents, options, tally):
        codes += document_codes
        counts.append(len(document_codes))
        rows.append((document.source, document.piece, document.number))
    source, piece, number = np.array(rows, np.uint32).reshape(-1, 3).T
    shard = store.Shard(
        tokens=np.frombuffer(b"".join(codes), np.uint16),
        sentences=np.fromiter(map(len, codes), np.uint32, len(codes)) // 2,
        documents=np.array(counts, np.uint32),
        origins=number,
    )
    shard, left = _without_test_text(out, shard, encoder, tally)
    source, piece = source[left], piece[left]
    is_long = selection.tokens_per_document(shard.sentences, shard.documents) >= options.min_tokens
    short = selection.documents(shard, np.flatnonzero(~is_long))
    tally.leave_out(
        "short_documents", len(short.documents), (beginning(encoder, short, i) for i in range(len(short.documents)))
    )
    shard, source, piece = selection.documents(shard, np.flatnonzero(is_long)), source[is_long], piece[is_long]
    arrays = shard._asdict() | {"source": source, "piece": piece.astype(np.uint8), "hash": duplicates.hashes(shard)}
    if options.duplicates == "near":
        arrays["sketches"] = duplicates.sketches(shard, arrays["hash"])
        arrays["bands"] = duplicates.bands(arrays["sketches"])
    storage.write_bytes(arrays_path(out, part), safetensors.numpy.save(arrays))
    record = {"counts": tally.counts, "read": tally.read, "markup": tally.markup, "samples": tally.samples}
    storage.write_bytes(record_path(out, part), storage.json_bytes(record))


def _without_test_text(
    out: str, shard: store.Shard, encoder: encoding.Encoder, tally: Tally
) -> tuple[store.Shard, np.ndarray]:
    """Returns the shard without the test text of benchmarks, and the numbers of the documents that are left."""
    passages = _passages(out)
    if passages is None:
        return shard, np.arange(len(shard.documents))
    is_test = contamination.is_test_text(passages, shard)
    clean_shard, left = selection.sentences(shard, ~is_test)
    starts = np.cumsum(shard.sentences, dtype=np.int64) - shard.sentences
    texts = (
        _decode(encoder, shard.tokens[starts[i] : starts[i] + shard.sentences[i]]) for i in np.flatnonzero(is_test)
    )
    tally.leave_out("test_sentences", int(is_test.sum()), texts)
    tally.counts["test_documents"] += len(shard.documents) - len(left)  # documents without a sentence left
    return clean_shard, left


def beginning(encoder: encoding.Encoder, shard: store.Shard, number: int) -> str:
    """Returns the beginning of a document, decoded from at most SAMPLE_CHARS tokens."""
    lengths = selection.tokens_per_document(shard.sentences, shard.documents)
    start = int(lengths[:number].sum())
    return _decode(encoder, shard.tokens[start : start + min(SAMPLE_CHARS, int(lengths[number]))])


def _decode(encoder: encoding.Encoder, ids: np.ndarray) -> str:
    return encoder.tokenizer.decode(ids.tolist(), skip_special_tokens=False)


def start() -> None:
    """Prepares this process to be a worker: it works in one thread, ignores Ctrl-C and ends with its parent."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    gc.set_threshold(20_000)  # as core.command.run does: at Python's 700, 7% of the time goes into searches
    worker_process.start()


@functools.cache
def _encoder(out: str) -> encoding.Encoder:
    return encoding.Encoder(vocab.load(out))


@functools.cache
def _passages(out: str) -> contamination.Passages | None:
    path = epath.Path(out) / PASSAGES
    return contamination.Passages(**safetensors.numpy.load(path.read_bytes())) if path.exists() else None


def _encode(
    encoder: encoding.Encoder, documents: list[sources.Document], options: Options, tally: Tally
) -> Iterator[tuple[sources.Document, list[bytes]]]:
    """Yields each document that is not empty after cleaning, and the ids of each sentence that has any."""
    batch, texts, chars = [], [], 0
    for i, document in enumerate(documents):
        plain = document.plain()
        tally.read_document(document, plain)
        document_sentences, changes = clean.to_sentences(
            plain, options.normal_form, options.keep_licence, options.language
        )
        for change in changes:
            tally.leave_out(change, 1, [plain] if change in SAMPLED else [])
        batch.append((document, len(document_sentences), "other_language" in changes))
        texts += document_sentences
        chars += len(document.text)
        if chars >= BATCH_CHARS or i == len(documents) - 1:
            codes = iter(encoder.encode(texts))
            for member, count, is_counted in batch:
                document_codes = [code for code in itertools.islice(codes, count) if code]
                if document_codes:
                    yield member, document_codes
                elif not is_counted:
                    tally.counts["empty_documents"] += 1
            batch, texts, chars = [], [], 0
