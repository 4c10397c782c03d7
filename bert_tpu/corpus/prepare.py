"""Prepares a corpus: sources are grouped into units, units are cut into parts, and parts are assembled into shards."""

from collections.abc import Callable, Iterator, Sequence
import functools
import json
import os
from pathlib import Path
import sys
from typing import Any

from etils import epath
import safetensors.numpy

from bert_tpu.core import command, locks, processors, storage
from bert_tpu.corpus import (
    assemble,
    beam,
    clean,
    contamination,
    heldout,
    input_units,
    lockfile,
    mix,
    plans,
    pool,
    preview,
    store,
    worker,
)
from bert_tpu.readers import sources
from bert_tpu.tokenizer import encoding, vocab

DUPLICATES = ("exact", "near", "keep")

WriteParts = Callable[[list[input_units.Unit], input_units.Work], None]


def prepare(
    inputs: list[str], tokenizer: str | Path, out: str | os.PathLike, *, workers: int | None = None,
    decontaminate: str = "", scratch: str = "", runner: str = "", beam_options: Sequence[str] = (), **options: Any,
) -> store.Lock:  # fmt: skip
    """Prepares a corpus in `out` from the documents in `inputs` and returns it.

    inputs: globs, tfds:NAME, or hf://datasets/OWNER/NAME/PATH.
    tokenizer: vocab.txt or folder of tokenizer files.
    out: folder of the corpus, which may be in a bucket.
    workers: processes that read, clean and tokenize; None for one per core.
    decontaminate: folder of benchmarks whose test text is left out; "" for none.
    scratch: folder in which a corpus for a bucket is built first; "" for none.
    runner: Beam runner that does the work of the processes instead; "" for none.
    beam_options: options for the runner.
    options: fields of worker.Options, which say how to clean the documents.

    The bytes depend only on inputs, tokenizer and options. A run continues where a killed one stopped, and changes
    nothing in a finished corpus. Raises UserError for invalid inputs or options, and for an `out` that has other files.
    """
    checked = _check(worker.Options(**options))
    write_parts = _part_writer(workers, runner, list(beam_options))
    epath.Path(out).exists()  # a place that cannot be written is an error before the work, not after it
    folder = epath.Path(scratch if scratch and storage.is_bucket(out) else out)
    if storage.is_bucket(folder) and not runner:
        raise command.UserError(f"--out {out} is in a bucket: add --scratch DIR, a folder to build the corpus in")
    vocabulary = vocab.load(tokenizer)
    vocab.check_corpus_ids(vocabulary, tokenizer)
    files = sources.find(inputs)
    sources.check(files, text_format=checked.format, column=checked.column)
    mix.match(mix.parse(checked.mix), [source.path for source in files])
    encoder = encoding.Encoder(vocabulary)
    passages = _passages(decontaminate, encoder, checked)
    plan = plans.make(files, vocabulary, checked, passages)
    folder.mkdir(parents=True, exist_ok=True)
    with locks.hold(folder) as is_ours:
        if not is_ours:
            raise command.UserError(f"another run is preparing {folder}; wait for it or name another --out")
        if (folder / store.LOCKFILE).exists():
            lock = _read_finished(folder, plan, files)
        else:
            if not runner:
                pool.start_server()  # and look at the text meanwhile
            if not (folder / store.PLAN).exists():  # a run that continues has checked them
                for warning in preview.check(files, checked, encoder):
                    print(f"warning: {warning}", file=sys.stderr)
                heldout.check(files, checked)
            _begin(folder, plan, files, vocabulary, passages)
            lock = _build(folder, plan, files, encoder, checked, write_parts)
    return lock if folder == epath.Path(out) else store.copy(lock, out)


def sample(
    inputs: list[str], tokenizer: str | Path, count: int, *, decontaminate: str = "", **options: Any
) -> Iterator[str]:
    """Yields lines that show `count` documents as `prepare` would store them. Writes nothing.

    The other arguments and the errors are those of `prepare`.
    """
    checked = _check(worker.Options(**options))
    if count < 1:
        raise command.UserError(f"--sample {count} is less than 1; try 5")
    vocabulary, files = vocab.load(tokenizer), sources.find(inputs)
    vocab.check_corpus_ids(vocabulary, tokenizer)
    encoder = encoding.Encoder(vocabulary)
    for warning in preview.check(files, checked, encoder):
        print(f"warning: {warning}", file=sys.stderr)
    yield from preview.Sampler(checked, encoder, _passages(decontaminate, encoder, checked)).lines(files, count)


def _passages(decontaminate: str, encoder: encoding.Encoder, options: worker.Options) -> contamination.Passages | None:
    """Returns the test text in the folder `decontaminate`, and prints what was read; None if that is ""."""
    if not decontaminate:
        return None
    passages, lines = contamination.load(decontaminate, encoder.encode, options.normal_form, options.language)
    print("\n".join(lines), file=sys.stderr)
    return passages


def _part_writer(workers: int | None, runner: str, beam_options: list[str]) -> WriteParts:
    """Returns the function that turns units into parts, with a pool of processes or with a Beam pipeline."""
    if runner:
        if workers is not None:
            raise command.UserError(f"--workers {workers} is for this machine; put options of {runner} after --")
        beam.check(runner, beam_options)
        return functools.partial(beam.write, runner=runner, words=beam_options)
    if beam_options:
        raise command.UserError(f"{' '.join(beam_options)} after -- is for Beam; name a --runner")
    workers = processors.available() if workers is None else workers
    if workers < 1:
        raise command.UserError(f"--workers {workers} is less than 1; try 1")
    return functools.partial(pool.write, workers=workers)


def _build(
    out: epath.Path,
    plan: dict[str, Any],
    inputs: list[sources.Source],
    encoder: encoding.Encoder,
    options: worker.Options,
    write_parts: WriteParts,
) -> store.Lock:
    """Builds the corpus, from its first unit to its lockfile."""
    size = input_units.part_chars(inputs)
    units, work = input_units.cut(inputs, size), input_units.Work(os.fspath(out), options, size)
    write_parts(units, work)
    counts = [input_units.read_record(unit.number, work) for unit in units]
    parts = [
        worker.part_name(unit.number, i)
        for unit, of_unit in zip(units, counts, strict=True)
        for i in range(of_unit.parts)
    ]
    assembled = assemble.assemble(out, parts, options, [source.path for source in inputs], encoder)
    lock = lockfile.write(out, plan | plans.commits(inputs), counts, assembled, parts)
    _tidy(out)
    return lock


def _check(options: worker.Options) -> worker.Options:
    """Returns the options. Raises UserError if one is invalid."""
    clean.check(options.normal_form, options.language)
    mix.parse(options.mix)
    for is_valid, complaint in (
        (0 < options.heldout < 1, f"--heldout {options.heldout} is not a share between 0 and 1; try 0.01"),
        (0 < options.similarity <= 1, f"--similarity {options.similarity} is not above 0 and at most 1; try 0.8"),
        (options.min_tokens >= 1, f"--min_tokens {options.min_tokens} is less than 1; try 1"),
        (options.duplicates in DUPLICATES, f"--duplicates {options.duplicates} is not one of {', '.join(DUPLICATES)}"),
    ):
        if not is_valid:
            raise command.UserError(complaint)
    if options.duplicates == "near":
        command.require("--duplicates near", "rensa", extra="corpus")
    return options


def _read_finished(out: epath.Path, plan: dict[str, Any], inputs: list[sources.Source]) -> store.Lock:
    """Reads the finished corpus in `out`. Raises UserError if it is not the corpus of this plan and these inputs."""
    lock = store.read(out)
    written_ns = storage.mtime_ns(out / store.LOCKFILE)
    newer = [source.path for source in inputs if source.mtime_ns > written_ns]
    if newer or any(lock.content.get(key) != plan[key] for key in plan):
        difference = f"older than {newer[0]}" if newer else "of other inputs, options or versions"
        raise command.UserError(f"{out} holds a finished corpus {difference}; name another --out or delete it")
    _tidy(out)
    print(f"{out} is already finished", file=sys.stderr)
    return lock


def _begin(
    out: epath.Path,
    plan: dict[str, Any],
    inputs: list[sources.Source],
    vocabulary: vocab.Vocab,
    passages: contamination.Passages | None,
) -> None:
    """Writes the plan and the tokenizer to `out` and removes partial files of a killed run.

    Raises UserError if `out` is not empty, unless its plan is the same.
    """
    for partial in storage.named(out, "*.partial"):
        partial.unlink()
    fingerprint = plan | {"mtimes_ns": [source.mtime_ns for source in inputs]}
    path, commits = out / store.PLAN, plans.commits(inputs)
    if not path.exists():
        if any(out.iterdir()):
            raise command.UserError(f"{out} is not empty; name another --out")
        storage.write_bytes(path, storage.json_bytes(fingerprint | commits))
    elif storage.json_bytes(json.loads(path.read_bytes()) | commits) != storage.json_bytes(fingerprint | commits):
        earlier = set(json.loads(path.read_bytes()).get("commits", ())) - set(commits.get("commits", ()))
        hint = f", or name the earlier commit to continue, {min(earlier)}" if earlier else ""
        raise command.UserError(
            f"{out} holds an unfinished corpus of other inputs, options or versions; name another --out or delete "
            f"it{hint}"
        )
    vocab.save(vocabulary, out)
    if passages is not None:
        storage.write_bytes(out / worker.PASSAGES, safetensors.numpy.save(passages._asdict()))


def _tidy(out: epath.Path) -> None:
    """Removes the files that only an unfinished corpus needs; a killed run may have left some."""
    unfinished = [*storage.named(out, worker.FILES), *storage.named(out, input_units.FILES)]
    for path in (*unfinished, out / store.PLAN, out / worker.PASSAGES):
        path.unlink(missing_ok=True)
