"""From parts to shards: duplicates go, sources are repeated as the mix has it, and documents are dealt to shards."""

import collections
from collections.abc import Iterator
import contextlib
import functools
import itertools
import os
from pathlib import Path
import tempfile
from typing import NamedTuple

from etils import epath
import numpy as np

from bert_tpu.core import progress, storage
from bert_tpu.corpus import dealing, duplicates, mix, selection, store, worker
from bert_tpu.tokenizer import encoding

EQUAL, SIMILAR = 1, 2
NAMES = {EQUAL: "equal_documents", SIMILAR: "similar_documents"}
STREAMED = ("tokens", "sentences")  # arrays of a shard that grow part by part


class Sifted(NamedTuple):
    """What came of all parts."""

    shards: dict[str, list[dict]]  # ShardInfos by split
    unknown: dict[str, int]  # [UNK] by split
    texts: dict[str, int]  # origins that differ, by split
    counts: dict[str, int]
    by_source: list[dict]  # documents and tokens of each in the shards, and its epochs
    samples: dict[str, list[str]]


class Documents(NamedTuple):
    """The documents of all parts in their order; [D] each."""

    part: np.ndarray  # number of the part
    row: np.ndarray  # of the document in its part
    source: np.ndarray
    hash: np.ndarray  # of its tokens
    is_piece: np.ndarray  # of a document that was cut when it was read
    origin: np.ndarray  # number of the text that it is, or is a piece or a copy of
    sentences: np.ndarray
    tokens: np.ndarray


class Deal(NamedTuple):
    """A split's documents and pieces of documents, and the shard of each."""

    items: dealing.Items
    shard: np.ndarray
    shards: int


def sift(
    out: epath.Path, names: list[str], options: worker.Options, paths: list[str], encoder: encoding.Encoder
) -> Sifted:
    """Makes the shards in `out` from the parts of these names. paths: of the sources."""
    documents = _documents(out, names)
    fate = _fates(out, names, documents, options)
    kept = _sums(documents.source, documents.tokens * (fate == 0), len(paths))
    epochs = mix.epochs(mix.parse(options.mix), paths, kept)
    copies = _copies(documents, fate, epochs[documents.source], options.heldout)
    deals = {split: _deal(out, names, documents, times) for split, times in copies.items()}
    shards, unknown = _write(out, names, documents, deals, encoder.unknown)
    total = sum(copies.values())
    return Sifted(
        shards=shards,
        unknown=unknown,
        texts={split: len(np.unique(documents.origin[times > 0])) for split, times in copies.items()},
        counts={name: int((fate == reason).sum()) for reason, name in NAMES.items()},
        by_source=[
            {"documents": int(count), "tokens": int(tokens), "epochs": float(times)}
            for count, tokens, times in zip(
                _sums(documents.source, total, len(paths)),
                _sums(documents.source, total * documents.tokens, len(paths)),
                epochs,
                strict=True,
            )
        ],
        samples=_samples(out, names, documents, fate, encoder),
    )


def _documents(out, names) -> Documents:
    """Reads all of the parts but their tokens."""
    columns = []
    with progress.bar(len(names), "documents", unit="part") as bar:
        for part, name in enumerate(names):
            sentences, lengths, number, source, own, piece = worker.load(
                out, name, "sentences", "documents", "origins", "source", "hash", "piece"
            )
            tokens = selection.tokens_of(store.Shard(None, sentences, lengths, None))
            # The documents of a unit are numbered: unit and number name a text, whole or in pieces.
            text = number.astype(np.int64) | worker.unit_of(name) << 32
            row = np.arange(len(own))
            columns.append([np.full(len(own), part), row, source, own, piece, text, lengths, tokens])
            bar.update()
    columns = columns or [[np.empty(0, np.int64)] * 8]
    part, row, source, own, piece, text, sentences, tokens = map(np.concatenate, zip(*columns, strict=True))
    # Equal texts are one origin where equal documents are kept, too: the hash of a text's first piece shows them.
    _, first, of_text = np.unique(text, return_index=True, return_inverse=True)
    _, origin = np.unique(own[first][of_text], return_inverse=True)
    return Documents(
        part, row, source.astype(np.int64), own, piece != 0, origin, sentences.astype(np.int64), tokens.astype(np.int64)
    )


def _fates(out, names, documents, options):
    """Returns 0 for each document that is kept, and the reason for each that is not."""
    fate = np.zeros(len(documents.part), np.uint8)
    if options.duplicates != "keep":
        fate[duplicates.equal(documents.hash)] = EQUAL
    if options.duplicates == "near":
        similar = duplicates.similar(
            np.bincount(documents.part, minlength=len(names)),
            lambda part, band: worker.load(out, names[part], f"bands/{band}")[0],
            lambda part: worker.load(out, names[part], "sketches")[0],
            options.similarity,
        )
        fate[similar & (fate == 0)] = SIMILAR
    return fate


def _copies(documents, fate, epochs, heldout):
    """How often each document comes in each split. epochs: of each document's source."""
    # Decided by a document's tokens, so that copies are in one split. Of a piece the others are in training.
    is_heldout = (documents.hash < heldout * 2.0**64) & ~documents.is_piece
    # A source that is read 0 times is in neither split.
    times = (fate == 0) * np.where(is_heldout, epochs > 0, mix.copies(documents.hash, epochs))
    return {split: times * (is_heldout == (split == "heldout")) for split in store.SPLITS}


def _deal(out, names, documents, copies) -> Deal:
    @functools.lru_cache(maxsize=1)  # large documents of one part follow each other
    def of_part(part):
        return worker.load(out, names[part], "sentences", "documents")

    def lengths(document):
        sentences, of_documents = of_part(documents.part[document])
        row = documents.row[document]
        start = int(of_documents[:row].sum())
        return sentences[start : start + int(of_documents[row])]

    items = dealing.cut(documents.tokens, documents.sentences, copies, lengths)
    return Deal(items, *dealing.deal(items, documents.origin))


def _samples(out, names, documents, fate, encoder):
    """The beginnings of a few documents that are left out, for each reason."""
    samples = {}
    for reason, name in NAMES.items():
        for document in np.flatnonzero(fate == reason)[: worker.SAMPLES]:
            shard = store.Shard(*worker.load(out, names[documents.part[document]], *store.Shard._fields))
            samples.setdefault(name, []).append(worker.text(encoder, shard, documents.row[document]))
    return samples


def _write(out, names, documents, deals, unknown_id):
    """(ShardInfos by split, [UNK] by split) of the shards, which are in `out`.

    Tokens and sentences of a shard come from all parts. They grow in a file of their own, so that memory does not.
    """
    unknown, infos = collections.Counter(dict.fromkeys(deals, 0)), {}
    with _local(out) as folder:
        with progress.bar(len(names), "deal", unit="part") as bar:
            for part, name in enumerate(names):
                shard = store.Shard(*worker.load(out, name, *store.Shard._fields))
                for split, deal in deals.items():
                    unknown[split] += _append(folder, split, deal, documents, part, shard, unknown_id)
                bar.update()
        with progress.bar(sum(deal.shards for deal in deals.values()), "shards", unit="shard") as bar:
            for split, deal in deals.items():
                infos[split] = []
                for number in range(deal.shards if len(deal.shard) else 0):
                    infos[split].append(_finish(out, folder, split, deal, documents, number)._asdict())
                    bar.update()
    return infos, dict(unknown)


def _append(folder, split, deal, documents, part, shard, unknown_id) -> int:
    """Adds what a part has for each shard of a split to the shards' files; returns the number of [UNK] in it."""
    first, last = np.searchsorted(documents.part[deal.items.document], (part, part + 1))
    items = dealing.Items(*(column[first:last] for column in deal.items))
    order = np.argsort(deal.shard[first:last], kind="stable")
    start = (np.cumsum(shard.documents, dtype=np.int64) - shard.documents)[documents.row[items.document]] + items.first
    tokens_before = np.concatenate([[0], np.cumsum(shard.sentences, dtype=np.int64)])
    spans = {"sentences": (start, items.sentences), "tokens": (tokens_before[start], items.tokens)}
    bounds = np.searchsorted(deal.shard[first:last][order], np.arange(deal.shards + 1))
    for name, (starts, lengths) in spans.items():
        values = selection.spans(getattr(shard, name), starts[order], lengths[order])
        ends = np.concatenate([[0], np.cumsum(lengths[order])])[bounds]
        for number, (begin, end) in enumerate(itertools.pairwise(ends.tolist())):
            if begin < end:
                with open(_stream(folder, split, number, name), "ab") as file:
                    file.write(values[begin:end].tobytes())
    return int(np.count_nonzero(values == unknown_id))


def _finish(out, folder, split, deal, documents, number) -> store.ShardInfo:
    """Writes a shard, whose tokens and sentences are in their files, and removes these."""
    of_shard = deal.shard == number
    paths = {name: _stream(folder, split, number, name) for name in STREAMED}
    arrays = {name: np.fromfile(path, getattr(store.DTYPES, name)) for name, path in paths.items()}
    shard = store.Shard(
        **arrays,
        documents=deal.items.sentences[of_shard],
        origins=documents.origin[deal.items.document[of_shard]],
    )
    info = store.write_shard(out / f"{split}-{number:05d}.safetensors", shard)
    for path in paths.values():
        path.unlink()
    return info


def _stream(folder, split, number, name):
    return folder / f"{split}-{number:05d}.{name}.partial"


@contextlib.contextmanager
def _local(out) -> Iterator[Path]:
    """Gives a folder for files that grow: `out`, or for a bucket, which takes whole files alone, a temporary one."""
    if not storage.is_bucket(out):
        for left in Path(out).glob("*.partial"):
            left.unlink()
        yield Path(os.fspath(out))
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _sums(source, values, number):
    return np.bincount(source, values, number).astype(np.int64)
