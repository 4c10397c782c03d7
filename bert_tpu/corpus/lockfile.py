"""Writes a corpus's lockfile, corpus.json: its contents in numbers, and a hash of each shard."""

import collections
from typing import Any

from etils import epath
import numpy as np

from bert_tpu.core import command, json_files, storage
from bert_tpu.corpus import assemble, input_units, store, worker
from bert_tpu.readers import decoding, sources, wiki_markup


def write(
    out: epath.Path,
    plan: dict[str, Any],
    unit_counts: list[input_units.UnitCounts],
    assembled: assemble.Assembled,
    parts: list[str],
) -> store.Lock:
    """Writes corpus.json over the shards in `out` and returns the finished corpus.

    out: folder of the corpus.
    plan: entries that were known before the work.
    unit_counts: of each unit.
    assembled: the result for all parts.
    parts: names of all parts, whose records are in `out`.

    Raises UserError if a split has no document.
    """
    cleaning: collections.Counter[str] = collections.Counter()
    samples = dict(assembled.samples)
    read: collections.Counter[int] = collections.Counter()
    markup: dict[int, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for part in parts:
        record = json_files.read(worker.record_path(out, part), remedy=f"delete {out}")
        cleaning.update(record["counts"])
        read.update({int(source): documents for source, documents in record["read"].items()})
        for source, numbers in record.get("markup", {}).items():
            markup[int(source)].update(numbers)
        for reason, texts in record["samples"].items():
            samples[reason] = (samples.get(reason, []) + texts)[: worker.SAMPLES]
    content = plan | {
        **decoding.add(unit_counts),
        "cleaning": {name: cleaning[name] for name in worker.COUNTS} | assembled.counts,
        "samples": samples,
        "by_source": [
            {"read": read[i]} | source | dict(markup.get(i, {})) for i, source in enumerate(assembled.by_source)
        ],
    }
    for split in store.SPLITS:
        shards = assembled.shards[split]
        sums = {k: sum(s[k] for s in shards) for k in ("documents", "sentences", "tokens")}
        share = assembled.unknown.get(split, 0) / max(sums["tokens"], 1)
        content[split] = sums | {"texts": assembled.texts[split], "shards": shards, "unknown_share": share}
    _check_splits(content, assembled.heldout_bounds, out)
    content["sha256"] = store.digest(content)
    lock = store.Lock(out, content)
    content["train"] |= _statistics(lock)
    storage.write_bytes(out / store.LOCKFILE, storage.json_bytes(content))
    return lock


def _check_splits(content: dict[str, Any], bounds: tuple[float, float] | None, out: epath.Path) -> None:
    """Raises UserError if a split has no document. bounds: those of --heldout that give each split two documents"""
    train, heldout = (content[split]["texts"] for split in store.SPLITS)  # `documents` has pieces and copies too
    share = content["options"]["heldout"]
    if not train + heldout:
        problem, needed = (
            decoding.no_text([source["path"] for source in content["sources"]], content),
            "files with text",
        )
        if any(content["cleaning"][reason] for reason in ("other_language", "short_documents", "test_documents")):
            problem, needed = f"the options leave nothing of the input ({_left_out(content)})", "other options"
        elif lost := losses(content):
            raise command.UserError(f"{lost[0][0]}; delete {out}, and {lost[0][1]}")
        raise command.UserError(f"{problem}; delete {out} and try {needed}")
    if not train or not heldout:
        wish = min(5 / train, 0.5) if train else share / 2
        left_out = f"; left out: {_left_out(content)}" if _left_out(content) else ""
        advice = f"--heldout {_share_between(*bounds, wish)}, or more documents" if bounds else "more documents"
        if not heldout and content["cut_documents"] >= train > 1:
            advice = f"documents below {sources.DOCUMENT_CHARS:,} characters: longer ones are cut and never held out"
        raise command.UserError(
            f"--heldout {share} puts all documents ({train + heldout}{left_out}) into one split; delete {out} and try "
            f"{advice}"
        )


def _share_between(low: float, high: float, wish: float) -> str:
    """Returns a share above `low` and at most `high` with few digits: `wish` if it is there, else their middle."""
    choices = (f"{share:.{digits}g}" for digits in range(2, 18) for share in (wish, (low + high) / 2))
    return next(text for text in choices if low < float(text) <= high)


def cleaning_summary(content: dict[str, Any]) -> str:
    """Returns in words how many documents were changed or left out, from corpus.json's content; "" if none were."""
    counts = content["cleaning"] | {"characters_of_markup_removed": markup_removed(content)}
    return _in_words(counts)


def markup_removed(content: dict[str, Any]) -> int:
    """Returns how many characters of wikis' markup were removed, from corpus.json's content."""
    total = _markup(content)
    return total["markup_characters"] - total["prose_characters"]


def reading_report(content: dict[str, Any]) -> list[str]:
    """Sentences for a person about what was read, from corpus.json's content; warnings at the end."""
    warnings = [f"warning: {problem}: {remedy}" for problem, remedy in losses(content)]
    return [*decoding.report(content), *wiki_markup.report(_markup(content)), *warnings]


def losses(content: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns why nearly all the text of some sources is lost, and what to do, as wiki_markup.losses does."""
    paths = [source["path"] for source in content["sources"]]
    return wiki_markup.losses(list(zip(paths, content["by_source"], strict=True)))


def _markup(content: dict[str, Any]) -> collections.Counter[str]:
    """Returns the sum of the counts of markup over all sources."""
    total: collections.Counter[str] = collections.Counter()
    for source in content["by_source"]:
        total.update({name: source.get(name, 0) for name in wiki_markup.COUNTS})
    return total


def _left_out(content: dict[str, Any]) -> str:
    """Returns in words how many documents and sentences were left out."""
    return _in_words({name: count for name, count in content["cleaning"].items() if name not in worker.CHANGES})


def _in_words(counts: dict[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items() if count)


def _statistics(lock: store.Lock) -> dict[str, float | int]:
    """Returns numbers of the training split. Reads and so verifies every training shard.

    unigram_entropy: of the tokens' frequencies, in nats.
    median_sentences: of a document.
    single_sentence_documents: documents of one sentence, from which next sentence prediction makes no true pair.
    """
    counts = np.zeros(lock.vocab_size, np.int64)
    sentences = []
    for info in lock.splits["train"]:
        shard = store.load(lock, [info])
        counts += np.bincount(shard.tokens, minlength=lock.vocab_size)
        sentences.append(shard.documents)
    p = counts[counts > 0] / counts.sum()
    lengths = np.concatenate(sentences)
    return {
        "unigram_entropy": float(-(p * np.log(p)).sum()),
        "median_sentences": int(np.median(lengths)),
        "single_sentence_documents": int(np.count_nonzero(lengths == 1)),
    }


def sentence_summary(content: dict[str, Any]) -> str:
    """Returns in words how many sentences the training documents have; "" for a corpus of an older release."""
    train = content["train"]
    if "single_sentence_documents" not in train:
        return ""
    single, documents = train["single_sentence_documents"], train["documents"]
    return (
        f"sentences of a training document: median {train['median_sentences']:,}, mean "
        f"{train['sentences'] / documents:.1f}; {single:,} ({single / documents:.1%}) of the documents have one"
    )
