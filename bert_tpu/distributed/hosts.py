"""The hosts of one run: they meet, compare their settings, stop together, and none waits for one that is gone.

All of it goes through the key-value store of JAX's coordination service on host 0: one beat a host every half second,
no collective, nothing in the path of a step. A run of one host has no store and pays nothing.
"""

import collections
from collections.abc import Callable
import contextlib
import json
import os
import socket
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any, NoReturn

import jax

from bert_tpu.core import command

BEAT_S = 0.5
FAREWELL_S = 4 * BEAT_S  # host 0 has the store: it stays until the others have read why it leaves, or that all end
AGAIN = "run the same command again on every host"
PREFIX = "bert_tpu"


class Disagreement(command.UserError):
    """A fault that all hosts detect at the same time, so that none reports it as another host's."""


class Hosts:
    """The hosts of a run, as a context; this process is number `index` of `count`.

    If one host leaves it with an exception, all others end, too.
    """

    def __init__(self, index: int = 0, count: int = 1) -> None:
        """Describes one host by default. For several, rendezvous.connect sets the `store` of each."""
        self.index, self.count = index, count
        self.store: Any = None  # the client of JAX's coordination service
        self.terminate_handler: object = None  # kept here because ctypes holds no reference to it
        self.signal: int | None = None  # number of a signal that one of the hosts got
        self.silent_s = 30.0  # seconds without a sign of life after which a host counts as dead
        self._position: dict[str, Any] = {"step": 0, "phase": "start"}
        self._beat, self._calls, self._leaving = 0, 0, threading.Lock()
        self._gate, self._last_asked = threading.Lock(), 0
        self._stop_at: int | None = None
        self._beats_seen: dict[int, tuple[dict[str, Any], float]] = dict.fromkeys(
            range(count), ({"beat": -1} | self._position, time.monotonic())
        )  # host -> (its last beat, the moment when that came)
        self._answered_s = time.monotonic()  # when the store answered last
        self._over = threading.Event()

    def __enter__(self) -> "Hosts":
        """Starts the beats."""
        if self.count > 1:
            self._answered_s = time.monotonic()
            self._beats_seen = {host: (beat, time.monotonic()) for host, (beat, _) in self._beats_seen.items()}
            threading.Thread(target=self._send_beats, daemon=True, name="beats").start()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, _: TracebackType | None) -> None:
        """Waits for the others after a run without a fault; after a fault ends this process, so that none waits."""
        if self.count == 1:
            return
        if fault is None or (isinstance(fault, SystemExit) and not fault.code):
            self.gather(None)
            self._over.set()
            self._say_farewell()
            return
        if isinstance(fault, jax.errors.JaxRuntimeError) or isinstance(fault.__cause__, jax.errors.JaxRuntimeError):
            self._wait_for_a_cause()
        if isinstance(fault, Disagreement):
            self.leave(command.sentence(fault), for_others=command.sentence(fault))
        if isinstance(fault, (command.UserError, OSError)):
            self.leave(command.sentence(fault))
        if kind is KeyboardInterrupt:
            self.leave("it was interrupted", 130)
        traceback.print_exception(fault)
        self.leave(f"{type(fault).__name__}: {(str(fault).splitlines() or [''])[0][:300]}")

    def _say_farewell(self) -> None:
        """Keeps host 0 here, with the store, until the others have read that all have ended, for FAREWELL_S at most."""
        if self.index:
            with contextlib.suppress(RuntimeError):  # host 0 waits no longer
                self._set(f"farewell/{self.index}", None)
            return
        until_s = time.monotonic() + FAREWELL_S
        while len(self._read("farewell")) < self.count - 1 and time.monotonic() < until_s:
            time.sleep(0.02)

    def _wait_for_a_cause(self) -> None:
        """Waits for a host to become silent: a host that died shows first as a broken collective or barrier."""
        until_s = time.monotonic() + self.silent_s + FAREWELL_S
        while time.monotonic() < until_s:
            if sentence := self.silent():
                self.leave(sentence, for_others=sentence)
            time.sleep(BEAT_S)

    def leave(self, sentence: str, code: int = 1, for_others: str | None = None) -> NoReturn:
        """Prints `sentence` as an error and ends this process and all others.

        sentence: printed by this process
        code: exit code of all processes
        for_others: sentence that the other hosts print; None: `sentence` with this host's number
        """
        with self._leaving:
            if self.count > 1:
                with contextlib.suppress(RuntimeError):  # if the store is gone, no host can read it
                    for_others = for_others or f"host {self.index} stopped: {sentence}"
                    self._set(f"life/fault/{self.index}", {"sentence": for_others, "code": code})
            print(f"error: {sentence}", file=sys.stderr, flush=True)
            sys.stdout.flush()
            if self.count > 1 and self.index == 0:
                time.sleep(FAREWELL_S)
            os._exit(code)  # any other way out waits for threads and hosts that may never come

    def end_without_host_0(self, *_: object) -> None:
        """Ends this process if host 0's service is gone during the run: no host can publish that in the store."""
        if not self._over.is_set():
            with self._leaving:
                print(
                    f"error: host 0, the coordinator, is gone: see its log, then {AGAIN}", file=sys.stderr, flush=True
                )
                os._exit(1)

    # Values of all hosts

    def gather(self, value: Any) -> list[Any]:
        """Returns every host's `value` (JSON), in order of the hosts. All of them call it, and wait for the last."""
        if self.count == 1:
            return [value]
        self._calls += 1
        prefix = f"gather{self._calls}"
        self._set(f"{prefix}/{self.index}", value)
        while len(values := self._read(prefix)) < self.count:
            time.sleep(0.02)
        return [values[str(host)] for host in range(self.count)]

    def broadcast(self, function: Callable[[], Any]) -> Any:
        """Calls `function` on host 0 alone, and returns its result (JSON) on all hosts."""
        return self.gather(function() if self.index == 0 else None)[0]

    def agree(self, facts: dict[str, Any]) -> None:
        """Returns if all hosts have the same `facts`; raises Disagreement with the hosts that differ, and in what."""
        of_hosts = self.gather(facts | {"host": socket.gethostname()})
        names = [of_host.pop("host") for of_host in of_hosts]
        differences = collections.defaultdict(list)
        for key in sorted({key for of_host in of_hosts for key in of_host}):
            values = [json.dumps(of_host.get(key)) for of_host in of_hosts]
            common = values.index(collections.Counter(values).most_common(1)[0][0])
            for host, value in enumerate(values):
                if value != values[common]:
                    differences[host].append(f"{key} is {value} there and {values[common]} on host {common}")
        if differences:
            sentences = "; ".join(
                f"host {host} ({names[host]}) differs: {', '.join(differences[host][:3])}"
                for host in sorted(differences)
            )
            raise Disagreement(f"{sentences}; start the same command, with the same files, on every host")

    # Stopping together

    def should_stop(self, step: int, signal: int | None) -> bool:
        """Returns whether all hosts stop after `step`.

        The loop asks it for each step, and has the same steps on all hosts. The hosts agree on the first step that none
        of them has asked about yet. `self.signal` is then the number that one of them got.
        step: number of the step that was dispatched last, counted from 1
        signal: number of the signal that this host got, or None
        """
        if self.count == 1:
            self.signal = signal
            return signal is not None
        with self._gate:  # closed while the hosts agree, so that none runs past the step they agree on
            self._last_asked, self.signal = step, self.signal or signal
            return self._stop_at is not None and step >= self._stop_at

    def _agree_on_last_step(self, signal: int) -> None:
        with self._gate:
            self.signal = self.signal or signal
            self._set(f"asked/{self.index}", self._last_asked)
            while len(asked := self._read("asked")) < self.count:
                time.sleep(0.02)
            self._stop_at = max(asked.values()) + 1

    # Signs of life

    def set_position(self, step: int, phase: str) -> None:
        """Sets the position that the next beat publishes. phase: as in loop.Hooks.enter_phase, or "start"."""
        self._position = {"step": step, "phase": phase}

    def positions(self) -> list[dict[str, Any]]:
        """Returns for each host its last known `step` and `phase`, and `silent_s`, the seconds since its last beat."""
        now_s = time.monotonic()
        positions = [dict(beat, silent_s=now_s - since_s) for _, (beat, since_s) in sorted(self._beats_seen.items())]
        positions[self.index] |= self._position | {"silent_s": 0.0}
        return positions

    def silent(self) -> str | None:
        """Returns a sentence about the host that has given no sign of life for `silent_s`; None if there is none."""
        if self.count == 1 or self._over.is_set():
            return None
        now_s = time.monotonic()
        since = {host: now_s - self._beats_seen[host][1] for host in range(self.count) if host != self.index}
        if now_s - self._answered_s > self.silent_s:  # then nothing is known of the others either
            since = {0: now_s - self._answered_s}
        host, seconds = max(since.items(), key=lambda item: item[1])
        if seconds <= self.silent_s:
            return None
        return (
            f"host {host} has given no sign of life for {seconds:.0f} s (it was at step "
            f"{self._beats_seen[host][0]['step']:,}): it was killed, is frozen or lost its network; {AGAIN}"
        )

    def _send_beats(self) -> None:
        while not self._over.wait(BEAT_S):
            try:
                self._exchange()
            except RuntimeError:
                self.end_without_host_0()

    def _exchange(self) -> None:
        self._beat += 1
        self._set(f"life/beat/{self.index}", {"beat": self._beat} | self._position)
        if self.signal:
            self._set(f"life/signal/{self.index}", self.signal)
        signs, now_s = self._read("life"), time.monotonic()
        self._answered_s = now_s
        for key, value in signs.items():
            kind, _, host = key.partition("/")
            if kind == "beat" and value["beat"] != self._beats_seen[int(host)][0]["beat"]:
                self._beats_seen[int(host)] = value, now_s
            elif kind == "fault":
                self.leave(value["sentence"], value["code"], for_others=value["sentence"])
            elif kind == "signal" and self._stop_at is None:
                self._agree_on_last_step(value)

    def _set(self, key: str, value: Any) -> None:
        self.store.key_value_set(f"{PREFIX}/{key}", json.dumps(value), allow_overwrite=True)

    def _read(self, prefix: str) -> dict[str, Any]:
        """Returns all values of the store whose keys have a prefix, by the rest of their keys."""
        entries = self.store.key_value_dir_get(f"{PREFIX}/{prefix}/")
        return {key.removeprefix(f"{PREFIX}/{prefix}/"): json.loads(value) for key, value in entries}


def devices() -> list[jax.Device]:
    """Returns all devices of all hosts, each host's together, so that a host's rows of a batch are one block of it.

    An order by id alone would not do: on v3 and v5e, ids of a host are not adjacent. Host 0 of v5e:4x4 has 0, 1, 4, 5.
    """
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
