"""From parts to shards: duplicates go, sources are repeated as the mix has it, and documents fall into two splits."""

import collections
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bert_tpu import corpus, duplicates, mix, parts, picking, progress

EQUAL, SIMILAR = 1, 2
NAMES = {EQUAL: "equal_documents", SIMILAR: "similar_documents"}


class Sifted(NamedTuple):
    """What came of all parts."""

    shards: dict[str, list[dict]]  # ShardInfos by split
    unknown: dict[str, int]  # [UNK] by split
    counts: dict[str, int]
    by_source: list[dict]  # documents and tokens of each in the shards, and its epochs
    samples: dict[str, list[str]]


def sift(out: Path, number: int, options: parts.Options, paths: list[str], encoder: parts.Encoder) -> Sifted:
    """The shards of parts 0 .. number - 1 are in `out`. paths: of the sources."""
    fate, tokens = _fates(out, number, options), np.zeros(len(paths), np.int64)
    for i in range(number):
        sentences, documents, source = parts.load(out, i, "sentences", "documents", "source")
        lengths = picking.tokens_of(corpus.Shard(None, sentences, documents))  # which needs no token
        tokens += _sums(source, lengths * (fate[i] == 0), len(paths))
    epochs = mix.epochs(mix.parse(options.mix), paths, tokens)

    shards, unknown = {split: [] for split in corpus.SPLITS}, collections.Counter()
    counts, samples = collections.Counter(dict.fromkeys(NAMES.values(), 0)), collections.defaultdict(list)
    made = np.zeros((2, len(paths)), np.int64)
    with progress.bar(number, "shards", unit="part") as shown:
        for i in range(number):
            shard = corpus.Shard(*parts.load(out, i, *corpus.Shard._fields))
            source, own, piece = parts.load(out, i, "source", "hash", "piece")
            for reason, name in NAMES.items():
                counts[name] += int((fate[i] == reason).sum())
                for document in np.flatnonzero(fate[i] == reason)[: parts.SAMPLES - len(samples[name])]:
                    samples[name].append(parts.text(encoder, shard, document))
            for split, chosen in _split(fate[i], own, piece, epochs[source], options.heldout).items():
                if not len(chosen):
                    continue
                picked = picking.documents(shard, chosen)
                info = corpus.write_shard(out / f"{split}-{i:05d}.safetensors", picked)
                shards[split].append(info._asdict())
                unknown[split] += int(np.count_nonzero(picked.tokens == encoder.unknown))
                made[0] += _sums(source[chosen], np.ones(len(chosen)), len(paths))
                made[1] += _sums(source[chosen], picking.tokens_of(picked), len(paths))
            shown.update()
    by_source = [
        {"documents": int(documents), "tokens": int(tokens), "epochs": float(times)}
        for documents, tokens, times in zip(*made, epochs, strict=True)
    ]
    return Sifted(shards, dict(unknown), dict(counts), by_source, dict(samples))


def _fates(out, number, options):
    """Of each part, for each document: 0 if it is kept, else the reason why it is not."""
    own = [parts.load(out, i, "hash")[0] for i in range(number)]
    sizes = [len(hashes) for hashes in own]
    fate = np.zeros(sum(sizes), np.uint8)
    if options.duplicates != "keep":
        fate[duplicates.equal(np.concatenate([*own, np.empty(0, np.uint64)]))] = EQUAL
    if options.duplicates == "near":
        similar = duplicates.similar(
            sizes, lambda part, band: parts.load(out, part, f"bands/{band}")[0],
            lambda part: parts.load(out, part, "sketches")[0], options.similarity,
        )  # fmt: skip
        fate[similar & (fate == 0)] = SIMILAR
    return np.split(fate, np.cumsum(sizes)[:-1])


def _split(fate, own, piece, epochs, heldout):
    """The documents of each split by their numbers, those of training as often as they come."""
    # Decided by a document's tokens, so that copies are in one split. Of a piece the others are in training.
    held = (own < heldout * 2.0**64) & (piece == 0)
    times = (fate == 0) * np.where(held, 1, mix.copies(own, epochs))
    return {split: np.repeat(np.arange(len(own)), times * (held == (split == "heldout"))) for split in corpus.SPLITS}


def _sums(source, values, number):
    return np.bincount(source, values, number).astype(np.int64)
