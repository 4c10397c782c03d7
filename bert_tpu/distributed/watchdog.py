"""The watchdog: a run that gets no further says where it stands and ends, instead of burning chips in silence."""

import faulthandler
import sys
import threading
import time

from bert_tpu.core import command

PATIENCE = 5  # compiling, evaluating and saving may take as many times longer than a step
TICK_S = 0.25


class Watchdog:
    """Context whose thread watches the steps of this host, and the other hosts' signs of life."""

    def __init__(self, *, silent_s, stacks_s, exit_s, group):
        """silent_s: a host that has given no sign of life for so long is taken for dead, and the run ends.

        stacks_s: whenever a step has gone on for so much longer, each host prints all its threads' stacks and names
        the host that lags; exit_s: after so long the process ends with 1. 0 turns either off.
        """
        if stacks_s and exit_s and exit_s < stacks_s:
            raise command.UserError(f"watchdog.exit_s {exit_s} is less than watchdog.stacks_s {stacks_s}: give more")
        self._stacks_s, self._exit_s = stacks_s or float("inf"), exit_s or float("inf")
        self._group, self._over = group, threading.Event()
        group.silent_s = silent_s
        self.at(0, "start")

    def at(self, step, doing):
        """The run goes on: it is at `step`, doing what `doing` says. `input` and `step` are due soonest."""
        self._group.at(step, doing)
        self._patience = 1 if doing in ("input", "step") else PATIENCE
        self._since_s, self._told = time.monotonic(), 0

    def __enter__(self):
        """Starts to watch."""
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()
        return self

    def __exit__(self, *_):
        """Watches no longer."""
        self._over.set()

    def _watch(self):
        while not self._over.wait(TICK_S):
            if sentence := self._group.silent():
                self._group.leave(sentence, told=sentence)
            waited_s = (time.monotonic() - self._since_s) / self._patience
            if waited_s > self._stacks_s * (self._told + 1):
                self._told += 1
                self._say_where(time.monotonic() - self._since_s)
            if waited_s > self._exit_s:
                where = stand(self._group.places(), self._group.index)
                self._group.leave(f"nothing was finished for {time.monotonic() - self._since_s:.0f} s: {where}")

    def _say_where(self, seconds):
        print(
            f"warning: nothing was finished for {seconds:.0f} s: {stand(self._group.places(), self._group.index)}; "
            "every thread of this host:",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        faulthandler.dump_traceback(sys.stderr, all_threads=True)


def stand(places, index) -> str:
    """Where each host stands, the one that lags first, in half a sentence.

    places: of each host its `step`, what it is `doing`, and for how long it has been `silent_s`.
    """
    if len(places) == 1:
        return f"at step {places[0]['step']:,} ({places[0]['doing']})"

    def lag(host):
        place = places[host]
        return -int(place["silent_s"] / 3), place["step"], place["doing"] != "input"

    last = min(range(len(places)), key=lag)
    ahead = max(range(len(places)), key=lag)
    told = [f"host {host}{' (this one)' if host == index else ''} is at step {places[host]['step']:,} "
            f"({places[host]['doing']})" for host in range(len(places))]  # fmt: skip
    if lag(last) == lag(ahead):
        return f"no host lags: {', '.join(told)}"
    silent_s = places[last]["silent_s"]
    silence = f", and has been silent for {silent_s:.0f} s" if silent_s >= 3 else ""
    return f"host {last} lags{silence}: {', '.join(told)}"
