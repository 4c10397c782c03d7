"""SIGTERM, SIGHUP and Ctrl-C: a start-up ends at once; a run that trains saves a checkpoint first.

The walk of a SIGTERM (a preemption, or `launch/tpu_pod.sh stop`) through the code:

1. Before the first step there is nothing to save. The handler here ends the process at once with exit code 143. On a
   pod it first tells the other hosts, which end too (hosts.Hosts.leave).
2. From `let_loop_save` on, the handler only notes the signal's number. Nothing is interrupted.
3. After each step has been dispatched, training/loop.py asks the hook `should_stop` (training/hooks.py). It asks
   hosts.Hosts.should_stop. One host alone stops after this step.
4. On a pod the thread of beats publishes the signal within BEAT_S. All hosts then agree on the first step that none of
   them has passed, and train up to it. So they stop after the same step, whichever host got the signal.
5. The loop waits for that step to end, evaluates if an evaluation is due, and saves a checkpoint.
6. training/trainer.py waits until the checkpoint is complete on disk, prints "stopped; step N is saved ...", and
   returns `exit_code()`: 143 on every host. (If the signal comes in the last step, only on the hosts that got it.)

Ctrl-C (SIGINT) goes the same way, with exit code 130, and SIGHUP, which a closed terminal sends, with 129. A second
SIGTERM changes nothing. A second Ctrl-C ends the process at once, without a checkpoint.
"""

import os
import signal
import sys
import time
from types import FrameType
from typing import Any

from bert_tpu.distributed import hosts

TWICE_S = 1.0  # a second Ctrl-C sooner than this counts as the first one


class StopSignals:
    """Context that handles SIGTERM, SIGHUP and Ctrl-C. Until `let_loop_save` they end the process at once.

    `signal`: the number of the signal that came, or None. Where another host got one, the loop sets it.
    """

    def __init__(self, group: hosts.Hosts | None = None) -> None:
        """Begins without a signal. group: the hosts that must not wait for this one if a signal ends it at start-up."""
        self.signal: int | None = None
        self._loop_saves, self._group, self._noted_s = False, group, 0.0

    def __enter__(self) -> "StopSignals":
        """Replaces the handlers of the signals. An ignored SIGHUP stays ignored: nohup keeps the run alive."""
        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        self._terminals = [number for number in (1, 2) if os.isatty(number)]
        self._handlers_before: dict[int, Any] = {number: signal.signal(number, self._handle) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        """Restores the handlers."""
        for number, handler in self._handlers_before.items():
            signal.signal(number, handler)

    def let_loop_save(self) -> None:
        """Leaves signals to the loop from now on. Only a second Ctrl-C still ends the process at once."""
        self._loop_saves = True

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._leave_terminal()
        if not self._loop_saves:
            # Or a second signal would wait for the lock of `leave`, which this thread has.
            for other in self._handlers_before:
                signal.signal(other, signal.SIG_IGN)
            if self._group is not None and self._group.count > 1:
                self._group.leave(f"it got {signal.Signals(number).name} before the first step", 128 + number)
            print("\nstopped before the first step; the same command goes on", file=sys.stderr, flush=True)
            os._exit(128 + number)  # an exception would have to wait for the threads that compile
        now_s = time.monotonic()
        if self.signal == number == signal.SIGINT:
            if now_s - self._noted_s > TWICE_S:
                # An exception would interrupt the writer of the checkpoint, which can then wait for ever.
                print("\nstopped at once; what was not saved yet is lost", file=sys.stderr, flush=True)
                os._exit(128 + number)
            return
        self.signal, self._noted_s = number, now_s

    def _leave_terminal(self) -> None:
        """Sends what is printed from now on nowhere: writing to a closed terminal fails, and would end the run."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for number in self._terminals:
            os.dup2(nowhere, number)
        os.close(nowhere)

    def is_requested(self) -> bool:
        """Returns whether a signal has come."""
        return self.signal is not None

    def exit_code(self) -> int:
        """Returns 128 + the signal's number, as a shell does, such as 143 for SIGTERM; 0 without a signal."""
        return 0 if self.signal is None else 128 + self.signal
