"""Passes the lines of metrics.jsonl to trackers: TensorBoard, trackio, Weights & Biases, MLflow.

A tracker gets lines of metrics.jsonl and nothing else, so no metric can be in one and not in the other. TensorBoard's
events are written here; each other tracker has a thread and a process (tracker_process.py), for which training never
waits. W/trackers.json keeps each tracker's run and the last line that it took. A restart goes on from there: it sends
the lines that are missing, and none again that a killed run had sent.
"""

from collections.abc import Iterable, Mapping, Sequence
import os
import time
from typing import Any, Protocol

from bert_tpu.core import command, storage
from bert_tpu.monitoring import tracker_record, tracker_thread
from bert_tpu.monitoring.tracker_record import Line

TENSORBOARD = "tensorboard"
NAMES = (TENSORBOARD, *tracker_thread.PACKAGES)
# Between two writes of TensorBoard's events to a bucket. Each uploads the whole file, which grows by a kilobyte a line,
# and Google Cloud Storage takes an object once a second. A write for each line took 0.5 to 2.5 s of the steps' time.
BUCKET_S = 120
# Events, and milliseconds, after which TensorFlow would write by itself. It overflows above 2^31 microseconds.
OWN_EVENTS, OWN_MS = 1 << 20, 2_000_000
CLOSE_S = 30  # that the end of a run waits for all trackers


def check(names: Sequence[str]) -> None:
    """Raises UserError if a name in config.log.to is unknown or its package is not installed."""
    for name in names:
        if name not in NAMES:
            raise command.UserError(f"config.log.to has {name!r}: give some of {', '.join(NAMES)}")
        if name != TENSORBOARD:
            command.require(f"log.to={name}", name, extra=name)


class Sink(Protocol):
    """A tracker that is open."""

    def write(self, line: Line) -> None:
        """Takes a line; never waits."""

    def close(self, is_complete: bool, deadline_s: float) -> None:
        """Ends the record, at the latest at `deadline_s` of time.monotonic."""


class Trackers:
    """The trackers of one run, on the process that writes."""

    def __init__(
        self, names: Sequence[str], *, workdir: str | os.PathLike, config: Mapping[str, Any], lines: Iterable[Line],
        first_step: int,
    ):  # fmt: skip
        """Opens the trackers and sends them the lines that they have not taken.

        config: dotted keys of the run's config, with values
        lines: all lines up to `first_step`, the step that this start resumes from
        """
        self._notes: list[str] = []
        self._record = tracker_record.Record(workdir, config, first_step)
        self._sinks: list[Sink] = []
        if TENSORBOARD in names:
            self._sinks.append(Events(workdir, first_step, self._notes))
        followers = [
            tracker_thread.Follower(name, workdir, config, self._record, self._notes)
            for name in names
            if name != TENSORBOARD
        ]
        for line in lines if followers else ():
            for follower in followers:
                follower.write(line)
        self._sinks += followers

    def write(self, line: Line) -> None:
        """Passes a new line to each tracker."""
        for sink in self._sinks:
            sink.write(line)

    def notes(self) -> list[str]:
        """Returns sentences to print, each once."""
        notes = self._notes.copy()
        del self._notes[: len(notes)]
        return notes

    def close(self, is_complete: bool) -> None:
        """Ends all records, within CLOSE_S. is_complete: whether the run has all of its steps."""
        deadline_s = time.monotonic() + CLOSE_S
        for sink in self._sinks:
            sink.close(is_complete, deadline_s)
        if reason := self._record.write(within_s=0):
            self._notes.append(
                f"warning: {tracker_record.FILE} cannot be written ({reason}): trackers may get lines of this run twice"
            )


class Events:
    """TensorBoard's events in the workdir."""

    def __init__(self, workdir: str | os.PathLike, first_step: int, notes: list[str]):
        """Tells TensorBoard to forget what a killed run wrote after `first_step`. notes: gets a sentence of a fault."""
        self._workdir, self._notes, self._lost, self._waiting = workdir, notes, 0, 0
        self._within_s = BUCKET_S if storage.is_bucket(workdir) else 0
        self._flushed_s = -float("inf")
        self._writer: Any = None
        if storage.named(workdir, "events.out.tfevents.*"):
            try:
                self._forget_after(first_step)
            except Exception as fault:  # each kind of store raises its own
                reason = " ".join(str(fault).split())[:300]
                notes.append(f"warning: TensorBoard may show steps of an earlier start twice ({reason})")

    def _forget_after(self, step: int) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.summary.writer import event_file_writer

        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        writer = event_file_writer.EventFileWriter(str(self._workdir), filename_suffix=".resumed")
        for _ in range(2):  # TensorBoard takes the first such event of all as that of a beginning
            writer.add_event(event_pb2.Event(wall_time=time.time(), step=step + 1, session_log=start))
        writer.close()

    def write(self, line: Line) -> None:
        """Writes an event for each value."""
        import tensorflow as tf  # only where events are written: the import takes seconds

        self._waiting += 1
        try:
            self._writer = self._writer or tf.summary.create_file_writer(
                str(self._workdir), max_queue=OWN_EVENTS, flush_millis=OWN_MS
            )
            self._writer.set_as_default()  # the end of `with as_default()` would flush
            for name, value in tracker_record.values(line).items():
                tf.summary.scalar(name, value, step=line["step"])
            if time.monotonic() - self._flushed_s >= self._within_s:
                self._flush()
        except tf.errors.OpError as fault:  # TensorFlow's counterpart of OSError
            self._lose(fault)

    def _flush(self) -> None:
        """Writes the events that wait. In a bucket TensorFlow writes the whole file again for this."""
        self._flushed_s = time.monotonic()
        self._writer.flush()
        self._waiting = 0

    def _lose(self, fault: Any) -> None:
        if not self._lost:
            reason = " ".join(fault.message.split())[:300]
            self._notes.append(f"warning: TensorBoard's events cannot be written ({reason}); training goes on")
        self._lost, self._waiting = self._lost + self._waiting, 0

    def close(self, is_complete: bool, deadline_s: float) -> None:
        """Writes what waits, and says how many lines were lost."""
        if self._waiting:
            import tensorflow as tf

            try:
                self._flush()
            except tf.errors.OpError as fault:
                self._lose(fault)
        if self._lost:
            self._notes.append(f"warning: {self._lost:,} lines of metrics.jsonl are not in TensorBoard's events")
