"""From parts to shards: duplicates go, sources are repeated as the mix has it, and documents fall into two splits."""

import collections
from typing import NamedTuple

from etils import epath
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


def sift(out: epath.Path, names: list[str], options: parts.Options, paths: list[str], encoder: parts.Encoder) -> Sifted:
    """The shards of the parts of these names are in `out`. paths: of the sources."""
    fate, entries = _fates(out, names, options), mix.parse(options.mix)
    tokens = _tokens(out, names, fate, len(paths)) if mix.has_shares(entries) else None
    epochs = mix.epochs(entries, paths, tokens)

    shards, unknown = {split: [] for split in corpus.SPLITS}, collections.Counter()
    counts, samples = collections.Counter(dict.fromkeys(NAMES.values(), 0)), collections.defaultdict(list)
    made = np.zeros((2, len(paths)), np.int64)
    with progress.bar(len(names), "shards", unit="part") as shown:
        for i, name in enumerate(names):
            *text, source, own, piece = parts.load(out, name, *corpus.Shard._fields, "source", "hash", "piece")
            shard = corpus.Shard(*text)
            for reason, left_out in NAMES.items():
                counts[left_out] += int((fate[i] == reason).sum())
                for document in np.flatnonzero(fate[i] == reason)[: parts.SAMPLES - len(samples[left_out])]:
                    samples[left_out].append(parts.text(encoder, shard, document))
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


def _fates(out, names, options):
    """Of each part, for each document: 0 if it is kept, else the reason why it is not."""
    own = [parts.load(out, name, "hash")[0] for name in names]
    sizes = [len(hashes) for hashes in own]
    fate = np.zeros(sum(sizes), np.uint8)
    if options.duplicates != "keep":
        fate[duplicates.equal(np.concatenate([*own, np.empty(0, np.uint64)]))] = EQUAL
    if options.duplicates == "near":
        similar = duplicates.similar(
            sizes, lambda part, band: parts.load(out, names[part], f"bands/{band}")[0],
            lambda part: parts.load(out, names[part], "sketches")[0], options.similarity,
        )  # fmt: skip
        fate[similar & (fate == 0)] = SIMILAR
    return np.split(fate, np.cumsum(sizes)[:-1])


def _tokens(out, names, fate, number):
    """Of each of `number` sources, in the documents that are kept."""
    tokens = np.zeros(number, np.int64)
    for name, fates in zip(names, fate, strict=True):
        sentences, documents, source = parts.load(out, name, "sentences", "documents", "source")
        lengths = picking.tokens_of(corpus.Shard(None, sentences, documents))  # which needs no token
        tokens += _sums(source, lengths * (fates == 0), number)
    return tokens


def _split(fate, own, piece, epochs, heldout):
    """The documents of each split by their numbers, those of training as often as they come."""
    # Decided by a document's tokens, so that copies are in one split. Of a piece the others are in training.
    held = (own < heldout * 2.0**64) & (piece == 0)
    times = (fate == 0) * np.where(held, 1, mix.copies(own, epochs))
    return {split: np.repeat(np.arange(len(own)), times * (held == (split == "heldout"))) for split in corpus.SPLITS}


def _sums(source, values, number):
    return np.bincount(source, values, number).astype(np.int64)
