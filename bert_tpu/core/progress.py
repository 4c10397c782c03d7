"""A progress bar for people, and a line now and then for a log file."""

import os
import sys
import time

import tqdm

LOG_EVERY_S = 10.0
CLEAR = "\r\x1b[K"  # moves to the line's start and deletes the line


class LogBar(tqdm.tqdm):
    """A bar that prints lines, because a log file cannot overwrite a line."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Prints the progress as a line."""
        print(msg or self, file=sys.stderr, flush=True)


def bar(total: int | None, name: str, unit: str = "B", done: int = 0) -> tqdm.tqdm:
    """A bar on stderr with the rate and the time left; `goto` moves it.

    total: bytes or other units; None if unknown
    name: the text in front of the bar
    unit: name of what is counted
    done: units that an earlier run has finished
    """
    terminal = sys.stderr.isatty()
    return (tqdm.tqdm if terminal else LogBar)(
        total=total,
        initial=done,
        desc=name,
        unit=unit,
        unit_scale=True,
        mininterval=0.1 if terminal else LOG_EVERY_S,
        miniters=0,
        dynamic_ncols=True,
    )


def goto(moving: tqdm.tqdm, position: int) -> None:
    """Moves a bar to `position`, and draws it if the last drawing is old enough."""
    moving.update(position - moving.n)


class Terminal:
    """Standard error: sentences, and below them, on a terminal, one live line that is overwritten."""

    def __init__(self):
        """Starts without a live line."""
        self.is_live, self._drawn_s = sys.stderr.isatty(), 0.0

    def live(self, text: str) -> None:
        """Overwrites the live line with `text`, at most ten times a second. Without a terminal, prints nothing."""
        if self.is_live and time.monotonic() - self._drawn_s > 0.1:
            self._drawn_s = time.monotonic()
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            print(f"{CLEAR}{text[: columns - 1]}", end="", file=sys.stderr, flush=True)

    def say(self, sentence: str) -> None:
        """Prints a sentence in place of the live line, which returns below it with the next call of `live`."""
        print(f"{CLEAR if self.is_live else ''}{sentence}", file=sys.stderr, flush=True)
        self._drawn_s = 0.0

    def clear(self) -> None:
        """Removes the live line."""
        if self.is_live and self._drawn_s:
            print(CLEAR, end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Ends the live line, so that the next output starts on a new one."""
        if self.is_live and self._drawn_s:
            print(file=sys.stderr)
