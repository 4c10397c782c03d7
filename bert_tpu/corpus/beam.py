"""Units made into parts by an Apache Beam pipeline, on whatever machines its runner has.

    units -> read, cut into parts -> spread over the workers -> clean, tokenize, write -> a record for each unit

Only files come back, so that the folder must be one that all workers see: gs:// for one.
"""

from collections.abc import Iterator
import contextlib
import io
import shutil

from bert_tpu.core import command, storage
from bert_tpu.corpus import input_units, worker


def check(runner: str, words: list[str]) -> None:
    """Raises UserError unless Beam is there, with this runner, and takes these options of its own."""
    command.require("--runner", "apache_beam", extra="beam")
    import apache_beam  # here and below, because it takes seconds

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):  # its parser's help of two hundred lines
            options = _options(runner, words)
            options.get_all_options()
        pipeline = apache_beam.Pipeline(options=options)
        shutil.rmtree(pipeline.local_tempdir)  # which running it would end
    except SystemExit:
        fault = said.getvalue().rpartition("error: ")[2].strip()
    except (AttributeError, ImportError, ValueError) as refusal:
        fault = str(refusal)
    else:
        return
    raise command.UserError(f"--runner {runner}: {fault}; mend it, or what stands after --")


def write(every: list[input_units.Unit], work: input_units.Work, *, runner: str, words: list[str]) -> None:
    """The parts and the record of every unit are in work.out; what was done before is passed over.

    Raises UserError for a source that does not serve, for a pipeline that failed, and for workers that do not see
    work.out.
    """
    import apache_beam as beam

    for path in input_units.faults(work):
        path.unlink()
    pipeline = beam.Pipeline(options=_options(runner, words))
    todo = pipeline | beam.Create(input_units.left(every, work))
    read = todo | "read" >> beam.FlatMap(_read, work).with_outputs("told", main="parts")
    written = read.parts | beam.Reshuffle() | "write" >> beam.Map(_write, work)
    _ = (written, read.told) | beam.Flatten() | beam.GroupByKey() | "close" >> beam.Map(_close, work)
    try:
        pipeline.run().wait_until_finish()
    except Exception as fault:  # each runner raises its own
        said = str(fault).strip().splitlines() or [type(fault).__name__]
        raise command.UserError(
            f"the pipeline failed: {said[-1]}; what is done is kept: see its log, and run the same command again"
        ) from fault
    for path in input_units.faults(work):
        raise command.UserError(path.read_text())
    if left := input_units.left(every, work):
        raise command.UserError(
            f"the pipeline is done, but {len(left)} of {len(every)} units are not in {work.out}: "
            "name a folder that all its workers see, gs:// for one"
        )


def _options(runner, words):
    from apache_beam.options.pipeline_options import PipelineOptions

    return PipelineOptions(["--runner", runner, *words])


def _read(unit: input_units.Unit, work: input_units.Work) -> Iterator:
    """(unit, name, documents) of the parts that are not done yet, then as "told" (unit, what it holds)."""
    from apache_beam import pvalue

    told = input_units.Told()
    with _noting(unit.number, work):
        for name, documents in input_units.read(unit, work, told):
            if not worker.is_done(work.out, name):
                yield unit.number, name, documents
        yield pvalue.TaggedOutput("told", (unit.number, told))


def _write(part: tuple, work: input_units.Work) -> tuple[int, None]:
    number, name, documents = part
    with _noting(number, work):
        worker.write(work.out, name, documents, work.options)
    return number, None


def _close(unit: tuple, work: input_units.Work) -> None:
    """All that came of a unit's parts is here; without a fault its record is written."""
    number, came = unit
    if not input_units.fault(work.out, number).exists():
        input_units.close(number, work, next(told for told in came if told))


@contextlib.contextmanager
def _noting(number: int, work: input_units.Work) -> Iterator[None]:
    """A UserError is put down beside the parts: raised here, a runner would try again, and tell it in its own way."""
    try:
        yield
    except command.UserError as fault:
        storage.write_bytes(input_units.fault(work.out, number), command.sentence(fault).encode())
