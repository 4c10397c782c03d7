"""The watchdog: a run that makes no progress reports where it is and ends, instead of wasting chips in silence."""

from collections.abc import Callable
import faulthandler
import sys
import threading
import time
from typing import Any

from bert_tpu.core import command
from bert_tpu.distributed import hosts

PATIENCE = 5  # compiling, saving and a batch of an evaluation may take this many times longer than a step
TICK_S = 0.25
STOPPED_S = 5.0  # the thread looks every TICK_S: after so long a pause the whole process was stopped


class Watchdog:
    """Context whose thread watches the steps of this host, and the other hosts' signs of life."""

    def __init__(self, *, silent_s: float, stacks_s: float, exit_s: float, group: hosts.Hosts) -> None:
        """Checks the limits. Raises UserError if exit_s is less than stacks_s.

        silent_s: seconds without a sign of life after which a host counts as dead and the run ends
        stacks_s: after so many seconds without progress, and each time as many more have passed, every host prints the
            stacks of its threads and names the host that lags; 0: never
        exit_s: seconds without progress after which the process ends with exit code 1; 0: never
        group: the hosts of the run
        """
        if stacks_s and exit_s and exit_s < stacks_s:
            raise command.UserError(f"watchdog.exit_s {exit_s} is less than watchdog.stacks_s {stacks_s}: give more")
        self._stacks_s, self._exit_s = stacks_s or float("inf"), exit_s or float("inf")
        self._group, self._over = group, threading.Event()
        group.silent_s = silent_s
        self.enter_phase(0, "start")

    def enter_phase(self, step: int, phase: str) -> None:
        """Notes progress: the run enters `phase` of `step`. "input" and "step" have the strictest limits."""
        self._group.set_position(step, phase)
        self._patience = 1 if phase in ("input", "step") else PATIENCE
        self._start_to_wait()

    def watched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns `function`, each call of which is progress: a phase may take as long as its batches need."""

        def call(*args: Any) -> Any:
            self._start_to_wait()
            return function(*args)

        return call

    def _start_to_wait(self) -> None:
        self._since_s, self._reports = time.monotonic(), 0

    def __enter__(self) -> "Watchdog":
        """Starts to watch."""
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops watching."""
        self._over.set()

    def _watch(self) -> None:
        looked_s = time.monotonic()
        while not self._over.wait(TICK_S):
            now_s = time.monotonic()
            if (pause_s := now_s - looked_s) > STOPPED_S:  # by Ctrl-Z, or with its machine: no step took that long
                self._since_s = min(now_s, self._since_s + pause_s)
            looked_s = now_s
            if sentence := self._group.silent():
                self._group.leave(sentence, for_others=sentence)
            waited_s = (now_s - self._since_s) / self._patience
            if waited_s > self._stacks_s * (self._reports + 1):
                self._reports += 1
                self._print_stacks()
            if waited_s > self._exit_s:
                self._group.leave(self._describe_wait())

    def _describe_wait(self) -> str:
        seconds, positions = time.monotonic() - self._since_s, self._group.positions()
        return f"nothing was finished for {seconds:.0f} s: {describe_positions(positions, self._group.index)}"

    def _print_stacks(self) -> None:
        print(f"warning: {self._describe_wait()}; every thread of this host:", file=sys.stderr, flush=True)
        faulthandler.dump_traceback(sys.stderr, all_threads=True)


def describe_positions(positions: list[dict[str, Any]], index: int) -> str:
    """Returns half a sentence that says where each host is, and names the host that lags, if one does.

    positions: one of each host, as Hosts.positions returns them: its `step`, its `phase`, and `silent_s`, the seconds
        since its last sign of life
    index: number of this host
    """
    if len(positions) == 1:
        return f"at step {positions[0]['step']:,} ({positions[0]['phase']})"

    def progress(host: int) -> tuple[int, int, bool]:
        position = positions[host]
        return -int(position["silent_s"] / 3), position["step"], position["phase"] != "input"

    last = min(range(len(positions)), key=progress)
    first = max(range(len(positions)), key=progress)
    each_host = ", ".join(
        f"host {host}{' (this one)' if host == index else ''} is at step {position['step']:,} ({position['phase']})"
        for host, position in enumerate(positions)
    )
    if progress(last) == progress(first):
        return f"no host lags: {each_host}"
    silent_s = positions[last]["silent_s"]
    silence = f", and has been silent for {silent_s:.0f} s" if silent_s >= 3 else ""
    return f"host {last} lags{silence}: {each_host}"
