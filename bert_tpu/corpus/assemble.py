"""Assembles parts into shards: removes duplicates, repeats sources as --mix says, and deals documents to shards."""

import collections
from collections.abc import Iterator, Sequence
import contextlib
import functools
import itertools
import os
from pathlib import Path
import sys
import tempfile
from typing import Any, NamedTuple

from etils import epath
import numpy as np

from bert_tpu.core import progress, storage
from bert_tpu.corpus import dealing, document_table, duplicates, heldout, mix, selection, store, worker
from bert_tpu.tokenizer import encoding

EQUAL, SIMILAR = 1, 2
REASONS = {EQUAL: "equal_documents", SIMILAR: "similar_documents"}  # names of the counts in corpus.json
STREAMED = ("tokens", "sentences")  # arrays of a shard that grow part by part


class Assembled(NamedTuple):
    """Results over all parts, for corpus.json."""

    shards: dict[str, list[dict[str, Any]]]  # ShardInfos by split
    unknown: dict[str, int]  # number of [UNK] by split
    texts: dict[str, int]  # number of different origins by split
    heldout_bounds: tuple[float, float] | None  # any --heldout between them gives each split two documents or more
    counts: dict[str, int]  # documents left out by reason
    by_source: list[dict[str, Any]]  # documents and tokens of each source in the shards, and its epochs
    samples: dict[str, list[str]]  # beginnings of documents left out by reason


class Deal(NamedTuple):
    """A split's documents and pieces of documents, and the shard of each.

    shard: of each item, [N]
    part_bounds: place of each part's first item, and N, [parts + 1]
    """

    items: dealing.Items
    shard: np.ndarray
    shards: int
    part_bounds: np.ndarray


def assemble(
    out: epath.Path, parts: list[str], options: worker.Options, paths: list[str], encoder: encoding.Encoder
) -> Assembled:
    """Writes the shards of a corpus.

    out: folder with the parts, and for the shards.
    parts: names of all parts, in order.
    options: `duplicates`, `similarity`, `mix` and `heldout` matter here.
    paths: of the sources.
    encoder: decodes samples.
    """
    documents = document_table.read(out, parts)
    entries = mix.parse(options.mix)
    order = np.argsort(-mix.known_epochs(entries, paths)[documents.source], kind="stable")
    fate = _fates(out, parts, documents, options, order)
    kept_tokens = _sums(documents.source, documents.tokens * (fate == 0), len(paths))
    epochs = mix.epochs(entries, paths, kept_tokens)
    copies = _copies(documents, fate, epochs[documents.source], options.heldout)
    _warn_of_misses(documents, fate, epochs, copies, entries, paths)
    deals = {split: _deal(out, parts, documents, times) for split, times in copies.items()}
    shards, unknown = _write(out, parts, documents, deals, encoder.unknown)
    total = copies["train"] + copies["heldout"]
    return Assembled(
        shards=shards,
        unknown=unknown,
        texts={
            split: int(np.count_nonzero(np.bincount(documents.origin[times > 0]))) for split, times in copies.items()
        },
        heldout_bounds=heldout.bounds(documents.hash[(total > 0) & ~documents.is_piece]),
        counts={name: int((fate == reason).sum()) for reason, name in REASONS.items()},
        by_source=[
            {"documents": int(count), "tokens": int(tokens), "epochs": float(times)}
            for count, tokens, times in zip(
                _sums(documents.source, total, len(paths)),
                _sums(documents.source, total * documents.tokens, len(paths)),
                epochs,
                strict=True,
            )
        ],
        samples=_samples(out, parts, documents, fate, encoder),
    )


def _fates(
    out: epath.Path, parts: list[str], documents: document_table.Documents, options: worker.Options,
    order: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Returns 0 for each document that is kept and the reason, EQUAL or SIMILAR, for each that is not; uint8 [D].

    order: the numbers of all documents, [D]. Of equal or similar ones the first in it is kept.
    """
    fate = np.zeros(len(documents.part), np.uint8)
    if options.duplicates != "keep":
        fate[duplicates.equal(documents.hash, order)] = EQUAL
    if options.duplicates == "near":
        similar = duplicates.similar(
            np.bincount(documents.part, minlength=len(parts)),
            lambda part, band: worker.load(out, parts[part], f"bands/{band}")[0],
            lambda part: worker.load(out, parts[part], "sketches")[0],
            options.similarity,
            order,
        )
        fate[similar & (fate == 0)] = SIMILAR
    return fate


def _copies(
    documents: document_table.Documents, fate: np.ndarray, epochs: np.ndarray, heldout: float
) -> dict[str, np.ndarray]:
    """Returns how often each document comes in each split, [D] by split.

    documents: all.
    fate: 0 for the documents to keep, [D].
    epochs: of each document's source, [D].
    heldout: share of the documents for the evaluation split.
    """
    # The hash of a document's tokens decides, so that its copies are in one split. Pieces go to training.
    is_heldout = (documents.hash < heldout * 2.0**64) & ~documents.is_piece
    # A source that is read 0 times is in neither split.
    times = (fate == 0) * np.where(is_heldout, epochs > 0, mix.copies(documents.hash, epochs))
    return {split: times * (is_heldout == (split == "heldout")) for split in store.SPLITS}


def _warn_of_misses(
    documents: document_table.Documents,
    fate: np.ndarray,
    epochs: np.ndarray,
    copies: dict[str, np.ndarray],
    entries: Sequence[mix.Entry],
    paths: list[str],
) -> None:
    """Prints a warning for each of the `entries` of --mix whose part of an epoch has another size.

    epochs: of each source
    The other arguments are those of `_copies`, and its result.
    """
    wanted = np.where((fate == 0) & (copies["heldout"] == 0), epochs[documents.source], 0) * documents.tokens
    got = copies["train"] * documents.tokens
    for sentence in mix.misses(entries, paths, documents.source, wanted, got):
        print(f"warning: {sentence}", file=sys.stderr)


def _deal(out: epath.Path, parts: list[str], documents: document_table.Documents, copies: np.ndarray) -> Deal:
    @functools.lru_cache(maxsize=1)  # large documents of one part follow each other
    def load_part(part: int) -> tuple[np.ndarray, ...]:
        return worker.load(out, parts[part], "sentences", "documents")

    def lengths(document: int) -> np.ndarray:
        of_sentences, of_documents = load_part(documents.part[document])
        row = documents.row[document]
        start = int(of_documents[:row].sum())
        return of_sentences[start : start + int(of_documents[row])]

    items = dealing.cut(documents.tokens, documents.sentences, copies, lengths)
    part_bounds = np.searchsorted(documents.part[items.document], np.arange(len(parts) + 1))
    return Deal(items, *dealing.deal(items, documents.origin), part_bounds)


def _samples(
    out: epath.Path, parts: list[str], documents: document_table.Documents, fate: np.ndarray, encoder: encoding.Encoder
) -> dict[str, list[str]]:
    """Returns the beginnings of the first documents that are left out, by reason."""
    samples: dict[str, list[str]] = {}
    for reason, name in REASONS.items():
        for document in np.flatnonzero(fate == reason)[: worker.SAMPLES]:
            shard = store.Shard(*worker.load(out, parts[documents.part[document]], *store.Shard._fields))
            samples.setdefault(name, []).append(worker.beginning(encoder, shard, documents.row[document]))
    return samples


def _write(
    out: epath.Path, parts: list[str], documents: document_table.Documents, deals: dict[str, Deal], unknown_id: int
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
    """Writes the shards to `out`; returns their ShardInfos and the number of [UNK], both by split.

    Tokens and sentences of a shard come from all parts. They are collected in files, so that memory does not grow.
    """
    unknown = collections.Counter(dict.fromkeys(deals, 0))
    infos: dict[str, list[dict[str, Any]]] = {}
    with _stream_folder(out) as folder:
        with progress.bar(len(parts), "deal", unit="part") as bar:
            for number, part in enumerate(parts):
                shard = store.Shard(*worker.load(out, part, *store.Shard._fields))
                for split, deal in deals.items():
                    unknown[split] += _append(folder, split, deal, documents, number, shard, unknown_id)
                bar.update()
        with progress.bar(sum(deal.shards for deal in deals.values()), "shards", unit="shard") as bar:
            for split, deal in deals.items():
                infos[split] = []
                for number in range(deal.shards if len(deal.shard) else 0):
                    infos[split].append(_write_shard(out, folder, split, deal, documents, number)._asdict())
                    bar.update()
    return infos, dict(unknown)


def _append(
    folder: Path,
    split: str,
    deal: Deal,
    documents: document_table.Documents,
    part: int,
    shard: store.Shard,
    unknown_id: int,
) -> int:
    """Appends a part's documents (`shard`) to the files of a split's shards in `folder`; returns its [UNK]s."""
    first, last = deal.part_bounds[part : part + 2]
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
                with open(_stream_path(folder, split, number, name), "ab") as file:
                    file.write(values[begin:end].tobytes())
    return int(np.count_nonzero(values == unknown_id))


def _write_shard(
    out: epath.Path, folder: Path, split: str, deal: Deal, documents: document_table.Documents, number: int
) -> store.ShardInfo:
    """Writes a shard to `out` from the files of its tokens and sentences in `folder`, and removes these."""
    of_shard = deal.shard == number
    paths = {name: _stream_path(folder, split, number, name) for name in STREAMED}
    arrays = {name: np.fromfile(path, store.DTYPES[name]) for name, path in paths.items()}
    shard = store.Shard(
        **arrays,
        documents=deal.items.sentences[of_shard],
        origins=documents.origin[deal.items.document[of_shard]],
    )
    info = store.write_shard(out / f"{split}-{number:05d}.safetensors", shard)
    for path in paths.values():
        path.unlink()
    return info


def _stream_path(folder: Path, split: str, number: int, name: str) -> Path:
    return folder / f"{split}-{number:05d}.{name}.partial"


@contextlib.contextmanager
def _stream_folder(out: epath.Path) -> Iterator[Path]:
    """Gives a folder for files that grow: `out`, where prepare.py has removed the files of a killed run.

    A bucket takes only whole files, so that it needs a temporary folder.
    """
    if not storage.is_bucket(out):
        yield Path(os.fspath(out))
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _sums(source: np.ndarray, values: np.ndarray, sources: int) -> np.ndarray:
    """Returns the sum of each source's values, int64 [sources]."""
    return np.bincount(source, values, sources).astype(np.int64)
