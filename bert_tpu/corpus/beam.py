"""Turns units into parts with an Apache Beam pipeline, on the machines of its runner.

    units -> read, cut into parts -> spread over the workers -> clean, tokenize, write -> a record for each unit

The results come back only as files. So all workers must see the folder: it may be gs://..., for example.
"""

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import io
import shutil
from typing import Any

from bert_tpu.core import command, numerals, storage
from bert_tpu.corpus import input_units, worker
from bert_tpu.readers import sources


def check(runner: str, words: Sequence[str]) -> None:
    """Raises UserError unless Beam is installed, with this runner, and takes its options `words`."""
    command.require("--runner", "apache_beam", extra="beam")
    import apache_beam  # here and below, because it takes seconds

    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):  # its parser prints a help of two hundred lines
            options = _options(runner, words)
            options.get_all_options()
        pipeline = apache_beam.Pipeline(options=options)
        shutil.rmtree(pipeline.local_tempdir)  # only the end of a run would remove it
    except SystemExit:
        fault = output.getvalue().rpartition("error: ")[2].strip()
    except (AttributeError, ImportError, ValueError) as refusal:
        fault = str(refusal)
    else:
        return
    raise command.UserError(f"--runner {runner}: {fault}; fix --runner or the options after --")


def write(units: list[input_units.Unit], work: input_units.Work, *, runner: str, words: Sequence[str]) -> None:
    """Writes the parts and the records of all units to work.out, except those that exist already.

    units: all of the input.
    work: the settings.
    runner: name of the Beam runner.
    words: options of Beam.

    Raises UserError for a source that cannot be read, for a pipeline that failed, and for workers that do not see
    work.out.
    """
    import apache_beam as beam

    for path in input_units.fault_paths(work):
        path.unlink()
    pipeline = beam.Pipeline(options=_options(runner, words))
    todo = pipeline | beam.Create(input_units.unfinished(units, work))
    read = todo | "read" >> beam.FlatMap(_read, work).with_outputs("counts", main="parts")
    written = read.parts | beam.Reshuffle() | "write" >> beam.Map(_write, work)
    _ = (written, read.counts) | beam.Flatten() | beam.GroupByKey() | "record" >> beam.Map(_write_record, work)
    try:
        pipeline.run().wait_until_finish()
    except Exception as fault:  # each runner raises its own
        lines = str(fault).strip().splitlines() or [type(fault).__name__]
        raise command.UserError(
            f"the pipeline failed: {lines[-1]}; finished parts are saved: see its log and run the same command again"
        ) from fault
    for path in input_units.fault_paths(work):
        raise command.UserError(path.read_text())
    if left := input_units.unfinished(units, work):
        raise command.UserError(
            f"the pipeline is done, but {work.out} lacks {len(left)} of {numerals.count(len(units), 'unit')}: "
            "name a folder that all its workers see, such as one in gs://"
        )


def _options(runner: str, words: Sequence[str]) -> Any:
    from apache_beam.options.pipeline_options import PipelineOptions

    return PipelineOptions(["--runner", runner, *words])


def _read(unit: input_units.Unit, work: input_units.Work) -> Iterator[Any]:
    """Yields (unit number, name, documents) of each unfinished part, then (unit number, counts) to the tag "counts"."""
    from apache_beam import pvalue

    counts = input_units.UnitCounts()
    with _storing_faults(unit.number, work):
        for part, documents in input_units.read(unit, work, counts):
            if not worker.is_done(work.out, part):
                yield unit.number, part, documents
        yield pvalue.TaggedOutput("counts", (unit.number, counts))


def _write(part: tuple[int, str, list[sources.Document]], work: input_units.Work) -> tuple[int, None]:
    number, name, documents = part
    with _storing_faults(number, work):
        worker.write(work.out, name, documents, work.options)
    return number, None


def _write_record(unit: tuple[int, Iterable[input_units.UnitCounts | None]], work: input_units.Work) -> None:
    """Writes a unit's record, unless it has a fault. `unit`: its number, and None for each part and its counts."""
    number, outputs = unit
    if not input_units.fault_path(work.out, number).exists():
        input_units.write_record(number, work, next(counts for counts in outputs if counts))


@contextlib.contextmanager
def _storing_faults(number: int, work: input_units.Work) -> Iterator[None]:
    """Writes a UserError to the unit's fault file. If it were raised, a runner would try again and change its text."""
    try:
        yield
    except command.UserError as fault:
        storage.write_bytes(input_units.fault_path(work.out, number), command.sentence(fault).encode())
