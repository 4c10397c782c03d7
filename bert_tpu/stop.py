"""Stopping on request: SIGTERM and Ctrl-C are noted, and the loop saves and leaves at the next step."""

import signal


class Stop:
    """Context in which the two signals only leave a note; a second Ctrl-C interrupts at once."""

    def __init__(self):
        """No signal has come."""
        self.signal = None

    def __enter__(self):
        """Takes the signals over."""
        self._before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        """Gives them back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number, _):
        if self.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number

    def requested(self) -> bool:
        """True once a signal has come."""
        return self.signal is not None

    def exit_code(self) -> int:
        """128 + the signal's number, as a shell has it: 143 for SIGTERM, 130 for Ctrl-C; 0 where none came."""
        return 0 if self.signal is None else 128 + self.signal
