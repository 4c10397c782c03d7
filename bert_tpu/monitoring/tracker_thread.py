"""The thread that passes a run's lines to one tracker's process, and starts it again if it fails."""

import collections
from collections.abc import Mapping
import contextlib
import json
import os
from pathlib import Path
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from bert_tpu.core import numerals, storage
from bert_tpu.monitoring import tracker_record
from bert_tpu.monitoring.tracker_record import Line

PACKAGES = ("trackio", "wandb", "mlflow")  # the trackers, which are named as their packages
OPEN_S, LINE_S = 180, 60  # until a tracker counts as hung: at its start, and at a line
GRACE_S = 3  # for a process that has ended its record
RETRY_S = 60  # after a fault; twice as long after each further one
PROGRAM = Path(__file__).with_name("tracker_process.py")


class TrackerError(Exception):
    """A tracker failed or did not answer."""


class Follower:
    """The lines on their way to one tracker."""

    def __init__(
        self, name: str, workdir: str | os.PathLike, config: Mapping[str, Any], record: tracker_record.Record,
        notes: list[str],
    ):  # fmt: skip
        """Starts the thread, which starts the tracker's process once there is a line.

        name: of the tracker
        config: dotted keys of the run's config, with values
        record: what the tracker has
        notes: gets a sentence at the first fault, and one about lines that were lost
        """
        self._name, self._record, self._notes = name, record, notes
        path = storage.absolute(workdir)
        self._opening = {
            "name": path.name, "config": dict(config),
            "directory": str(Path.cwd() if storage.is_bucket(path) else path),
        }  # fmt: skip
        self._lines: collections.deque[Line] = collections.deque()
        self._wake = threading.Condition()
        self._end: bool | None = None  # whether the run is complete, once it ends
        self._deadline_s = float("inf")
        self._process: _Process | None = None
        self._has_complained, self._retry_s = False, RETRY_S
        self._thread = threading.Thread(target=self._run, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def write(self, line: Line) -> None:
        """Takes a line, unless the tracker has it."""
        if not self._record.has_taken(self._name, line):
            with self._wake:
                self._lines.append(line)
                self._wake.notify()

    def close(self, is_complete: bool, deadline_s: float) -> None:
        """Sends the remaining lines and ends the tracker's record, at the latest at `deadline_s`."""
        with self._wake:
            self._end, self._deadline_s = is_complete, deadline_s
            self._wake.notify()
        self._thread.join(max(deadline_s - time.monotonic(), 0) + 1)
        if self._process:
            self._process.kill()
        if self._lines:
            self._notes.append(
                f"warning: {numerals.count(len(self._lines), 'line')} of metrics.jsonl did not reach {self._name}; the "
                "same command sends them when it is started again"
            )

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._lines or self._end is not None)
            try:
                while self._lines:
                    self._send(self._lines[0])
                    self._lines.popleft()
                if self._end is not None:
                    self._finish()
                    return
            except TrackerError as fault:
                self._complain(str(fault))
                with self._wake:
                    if self._end is not None:
                        return
                    self._wake.wait_for(lambda: self._end is not None, self._retry_s)
                self._retry_s *= 2

    def _send(self, line: Line) -> None:
        if not self._process:
            self._process = _Process(self._name, lambda: self._deadline_s)
            answer = self._ask(self._opening | {"id": self._record.run_id(self._name)}, OPEN_S)
            self._record.open(self._name, answer["id"])
        self._ask({"step": line["step"], "values": tracker_record.values(line)}, LINE_S)
        self._record.take(self._name, line)

    def _finish(self) -> None:
        if self._process:
            self._ask({"end": self._end}, LINE_S)
            self._process.kill(after_s=GRACE_S)  # the libraries have work of their own at exit

    def _ask(self, message: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Returns the process' answer. Raises TrackerError, and ends the process, if it failed or gave none."""
        assert self._process
        try:
            answer = self._process.ask(message, timeout_s)
            while "note" in answer:
                self._complain(answer["note"])
                answer = self._process.answer(timeout_s)
            if "failed" in answer:
                raise TrackerError(answer["failed"])
            return answer
        except (TrackerError, OSError, ValueError) as fault:
            self._process.kill()
            self._process = None
            raise TrackerError(str(fault)) from fault

    def _complain(self, reason: str) -> None:
        if not self._has_complained:
            self._notes.append(
                f"warning: {self._name} fails ({reason}); training goes on, and its lines are sent again later"
            )
        self._has_complained = True


class _Process:
    """The process of a tracker, in a session of its own, so that Ctrl-C does not reach it."""

    def __init__(self, name: str, deadline_s: Any):
        """deadline_s: returns the time after which no answer is waited for."""
        self._deadline_s, self._rest = deadline_s, b""
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), name], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True, bufsize=0,
        )  # fmt: skip

    def ask(self, message: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Sends a message and returns the answer."""
        assert self._process.stdin
        self._process.stdin.write((json.dumps(message) + "\n").encode())
        return self.answer(timeout_s)

    def answer(self, timeout_s: float) -> dict[str, Any]:
        """Returns the next answer. Raises TrackerError if there is none within `timeout_s` or before the deadline."""
        assert self._process.stdout
        until_s = time.monotonic() + timeout_s
        while b"\n" not in self._rest:
            if time.monotonic() > min(until_s, self._deadline_s()):
                raise TrackerError("it does not answer")
            if select.select([self._process.stdout], [], [], 0.2)[0]:
                if not (piece := os.read(self._process.stdout.fileno(), 1 << 16)):
                    raise TrackerError("its process has ended")
                self._rest += piece
        text, _, self._rest = self._rest.partition(b"\n")
        return json.loads(text)

    def kill(self, after_s: float = 0) -> None:
        """Waits for the process' end for `after_s` seconds, and then ends it and the processes that it started."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(after_s)
        with contextlib.suppress(ProcessLookupError):  # of a group that has ended
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
