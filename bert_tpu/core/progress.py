"""A progress bar for people, and a line now and then for a log file."""

import os
import sys
import time

import tqdm

LOG_EVERY_S = 10.0
CLEAR = "\r\x1b[K"  # to the line's start, and all that is on it gone


class LogBar(tqdm.tqdm):
    """A bar that prints lines, because a log cannot overwrite what it has."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Prints where the bar stands."""
        print(msg or self, file=sys.stderr, flush=True)


def bar(total: int | None, name: str, unit: str = "B", done: int = 0) -> tqdm.tqdm:
    """A bar over bytes or other units with rate and time left, on stderr; `goto` moves it.

    total: None where nobody knows. done: by an earlier run.
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


def goto(shown: tqdm.tqdm, position: int) -> None:
    """The bar stands at `position`, drawn if the last drawing is old enough."""
    shown.update(position - shown.n)


class Terminal:
    """Standard error: sentences, and below them, if a person looks on, a live line that is written over."""

    def __init__(self):
        """Nothing is on the live line."""
        self.is_live, self._shown_s = sys.stderr.isatty(), 0.0

    def live(self, text):
        """Shows `text` if it is to be seen, at most ten times a second."""
        if self.is_live and time.monotonic() - self._shown_s > 0.1:
            self._shown_s = time.monotonic()
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
            print(f"{CLEAR}{text[: columns - 1]}", end="", file=sys.stderr, flush=True)

    def say(self, sentence):
        """Prints a sentence; the live line comes back below it with its next text."""
        print(f"{CLEAR if self.is_live else ''}{sentence}", file=sys.stderr, flush=True)
        self._shown_s = 0.0

    def close(self):
        """Leaves the live line, so that what follows does not run into it."""
        if self.is_live and self._shown_s:
            print(file=sys.stderr)
