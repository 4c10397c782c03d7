"""Stopping on request: a start-up is left at once; a loop that trains saves first."""

import os
import signal
import sys
import time

TWICE_S = 1.0  # a second Ctrl-C sooner than this is taken for the first one


class Stop:
    """Context that takes over SIGTERM and Ctrl-C. Until `wait_for_loop` they end the process, with nothing to save."""

    def __init__(self, group=None):
        """No signal has come. group: the Hosts that a start-up's end must not leave waiting."""
        self.signal, self._loop_saves, self._group, self._noted_s = None, False, group, 0.0

    def __enter__(self):
        """Takes the signals over."""
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        """Gives them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def wait_for_loop(self):
        """From here on a signal leaves a note for the loop, and only a second Ctrl-C ends the process at once."""
        self._loop_saves = True

    def _note(self, number, _):
        if not self._loop_saves:
            if self._group is not None and self._group.count > 1:
                self._group.leave(f"it got {signal.Signals(number).name} before the first step", 128 + number)
            os._exit(128 + number)  # an exception would have to wait for the threads that compile
        now_s = time.monotonic()
        if self.signal == number == signal.SIGINT:
            if now_s - self._noted_s > TWICE_S:
                # An exception would meet the checkpoint's writer in its midst, which can then wait for ever.
                print("\nstopped at once; what was not saved yet is lost", file=sys.stderr, flush=True)
                os._exit(128 + number)
            return
        self.signal, self._noted_s = number, now_s

    def requested(self) -> bool:
        """True once a signal has come."""
        return self.signal is not None

    def exit_code(self) -> int:
        """128 + the signal's number, as a shell has it: 143 for SIGTERM, 130 for Ctrl-C; 0 where none came."""
        return 0 if self.signal is None else 128 + self.signal
