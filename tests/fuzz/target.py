"""A target of random inputs, and the count of what happened to them."""

import collections
from collections.abc import Callable
import contextlib
import signal
import time
import traceback
from typing import Any, NamedTuple

import hypothesis
from hypothesis.strategies import SearchStrategy

from bert_tpu.core import command

HANG_S = 60  # an input that takes longer hangs; the slowest sound ones take seconds, on a busy machine


class Target(NamedTuple):
    """A reader or a command. `check` returns if it accepts the input, and raises UserError if it refuses it."""

    name: str
    inputs: SearchStrategy
    check: Callable[[Any], None]  # an AssertionError says that it accepted the input and did not reproduce it
    share: float = 1.0  # of the inputs, before the shares are scaled to a sum of 1
    prepare: Callable[[], Any] = dict  # what `inputs` needs and takes seconds or random numbers; called once


class Hang(BaseException):
    """An input took longer than HANG_S; no `except Exception` may swallow it."""


class Outcome:
    """Counts of a target's inputs by result, and the shortest input of each kind of failure."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.failures: dict[str, tuple[str, str]] = {}  # place of the failure -> (input, traceback)
        self.seconds = 0.0
        self.refusals: collections.Counter[str] = collections.Counter()

    def record(self, target: Target, value: Any) -> None:
        """Gives one input to the target and counts the result."""
        start = time.perf_counter()
        try:
            with _limit(HANG_S):
                target.check(value)
            self.counts["accepted"] += 1
        except command.UserError as error:
            self.counts["refused"] += 1
            self.refusals[command.sentence(error)[-60:]] += 1
        except AssertionError as error:
            self._fail("not reproduced", _place(error), value, error)
        except Hang as error:
            self._fail("hang", _place(error), value, error)
        except Exception as error:
            self._fail("traceback", f"{type(error).__name__} {_place(error)}", value, error)
        self.seconds += time.perf_counter() - start

    def _fail(self, kind: str, place: str, value: Any, error: BaseException) -> None:
        self.counts[kind] += 1
        shown, key = repr(value), f"{kind}: {place}"
        if key not in self.failures or len(shown) < len(self.failures[key][0]):
            self.failures[key] = shown, "".join(traceback.format_exception(error))


def run(target: Target, inputs: int, seed: int) -> Outcome:
    """Gives `inputs` random inputs to a target. Failures are counted, not raised."""
    outcome = Outcome()
    target.prepare()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=inputs,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate],
    )
    @hypothesis.given(target.inputs)
    def one(value: Any) -> None:
        outcome.record(target, value)

    one()
    return outcome


@contextlib.contextmanager
def _limit(seconds: int):
    def stop(*_):
        raise Hang(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _place(error: BaseException) -> str:
    """The innermost line of this project in a traceback."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "site-packages" not in frame.filename]
    ours = [frame for frame in frames if "bert_tpu" in frame.filename or "/tools/" in frame.filename] or frames
    return f"{ours[-1].filename.rpartition('/')[2]}:{ours[-1].lineno}" if ours else ""
