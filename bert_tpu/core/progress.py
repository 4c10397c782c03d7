"""A progress bar for people, and a line now and then for a log file."""

import sys

import tqdm

LOG_EVERY_S = 10.0


class Lines(tqdm.tqdm):
    """A bar that prints lines, because a log cannot overwrite what it has."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Prints where the bar stands."""
        print(msg or self, file=sys.stderr, flush=True)


def bar(total: int | None, name: str, unit: str = "B", done: int = 0) -> tqdm.tqdm:
    """A bar over bytes or other units with rate and time left, on stderr; `goto` moves it.

    total: None where nobody knows. done: by an earlier run.
    """
    terminal = sys.stderr.isatty()
    return (tqdm.tqdm if terminal else Lines)(
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
