"""The hosts of one run: they meet, compare what they hold, stop together, and none waits for one that is gone.

All of it goes through the key-value store of JAX's coordination service on host 0: a beat a host and half second, no
collective, nothing on the step's path. A run of one host has no store and pays nothing.
"""

import collections
import contextlib
import json
import os
import socket
import sys
import threading
import time
import traceback

import jax

from bert_tpu.core import command

BEAT_S = 0.5
FAREWELL_S = 4 * BEAT_S  # host 0 holds the store: it stays until the others have read why it leaves
AGAIN = "run the same command again on every host"
ROOM = "bert_tpu"


class Disagreement(command.UserError):
    """A fault that all hosts find at once, so that none is told of as another's."""


class Hosts:
    """Context of a run's hosts, of which this is number `index`; whoever leaves it with a fault tells the others."""

    def __init__(self, index=0, count=1):
        """One host: nobody to wait for. Of several, rendezvous.connect gives each its `store`."""
        self.index, self.count, self.store, self.signal, self.silent_s = index, count, None, None, 30.0
        self._place, self._beat = {"step": 0, "doing": "start"}, 0
        self._calls, self._leaving = 0, threading.Lock()
        self._gate, self._asked, self._stop_at = threading.Lock(), 0, None
        self._seen = dict.fromkeys(range(count), ({"beat": -1} | self._place, time.monotonic()))  # host -> beat, when
        self._answered_s = time.monotonic()
        self._over = threading.Event()

    def __enter__(self):
        """Starts the beats."""
        if self.count > 1:
            self._answered_s = time.monotonic()
            self._seen = {host: (seen, time.monotonic()) for host, (seen, _) in self._seen.items()}
            threading.Thread(target=self._beats, daemon=True, name="beats").start()
        return self

    def __exit__(self, kind, fault, _):
        """Waits for the others after a run that went well; after a fault ends this process, so that none waits."""
        if self.count == 1:
            return
        if fault is None or (kind is SystemExit and not fault.code):
            self.gather(None)
            self._over.set()
            return
        if isinstance(fault, jax.errors.JaxRuntimeError) or isinstance(fault.__cause__, jax.errors.JaxRuntimeError):
            self._wait_for_a_cause()
        if isinstance(fault, Disagreement):
            self.leave(command.sentence(fault), told=command.sentence(fault))
        if isinstance(fault, (command.UserError, OSError)):
            self.leave(command.sentence(fault))
        if kind is KeyboardInterrupt:
            self.leave("it was interrupted", 130)
        traceback.print_exception(fault)
        self.leave(f"{kind.__name__}: {(str(fault).splitlines() or [''])[0][:300]}")

    def _wait_for_a_cause(self):
        """A collective or barrier that broke is what the others notice of a host that died: soon it will be silent."""
        until_s = time.monotonic() + self.silent_s + FAREWELL_S
        while time.monotonic() < until_s:
            if sentence := self.silent():
                self.leave(sentence, told=sentence)
            time.sleep(BEAT_S)

    def leave(self, sentence, code=1, told=None):
        """Ends this process with `sentence` and exit code, and before that tells the others, so that they end too."""
        with self._leaving:
            if self.count > 1:
                with contextlib.suppress(RuntimeError):  # nobody left to tell
                    told = told or f"host {self.index} stopped: {sentence}"
                    self._set(f"life/fault/{self.index}", {"sentence": told, "code": code})
            print(f"error: {sentence}", file=sys.stderr, flush=True)
            sys.stdout.flush()
            if self.count > 1 and self.index == 0:
                time.sleep(FAREWELL_S)
            os._exit(code)  # any other way out waits for threads and hosts that may never come

    def lost(self, *_):
        """Host 0's service is gone: the one end that cannot be told through it."""
        if not self._over.is_set():
            with self._leaving:
                print(
                    f"error: host 0, the coordinator, is gone: see its log, then {AGAIN}", file=sys.stderr, flush=True
                )
                os._exit(1)

    # What all hosts hold

    def gather(self, value) -> list:
        """Every host's `value` (JSON), in order of the hosts; all of them call it, and none returns before the last."""
        if self.count == 1:
            return [value]
        self._calls += 1
        room = f"gather{self._calls}"
        self._set(f"{room}/{self.index}", value)
        while len(found := self._dir(room)) < self.count:
            time.sleep(0.02)
        return [found[str(host)] for host in range(self.count)]

    def first(self, function):
        """What `function()` returns on host 0, the only one that calls it."""
        return self.gather(function() if self.index == 0 else None)[0]

    def agree(self, facts: dict[str, object]):
        """Returns if all hosts hold the same `facts`; Disagreement names the hosts that do not and what differs."""
        held = self.gather(facts | {"host": socket.gethostname()})
        names = [one.pop("host") for one in held]
        odd = collections.defaultdict(list)
        for key in sorted({key for one in held for key in one}):
            values = [json.dumps(one.get(key)) for one in held]
            common = values.index(collections.Counter(values).most_common(1)[0][0])
            for host, value in enumerate(values):
                if value != values[common]:
                    odd[host].append(f"{key} is {value} there and {values[common]} on host {common}")
        if odd:
            told = "; ".join(f"host {host} ({names[host]}) differs: {', '.join(odd[host][:3])}" for host in sorted(odd))
            raise Disagreement(f"{told}; start the same command, with the same files, on every host")

    # Stopping together

    def stops(self, step, signal) -> bool:
        """True if all hosts stop after `step`; `signal`: what this one has been sent, or None.

        To be asked after each step, with the same steps on all hosts. The hosts agree on the first step that none of
        them has asked about yet; `self.signal` is then the number that one of them was sent.
        """
        if self.count == 1:
            self.signal = signal
            return signal is not None
        with self._gate:  # shut while the hosts agree, so that none runs past the step they agree on
            self._asked, self.signal = step, self.signal or signal
            return self._stop_at is not None and step >= self._stop_at

    def _meet(self, signal):
        with self._gate:
            self.signal = self.signal or signal
            self._set(f"asked/{self.index}", self._asked)
            while len(asked := self._dir("asked")) < self.count:
                time.sleep(0.02)
            self._stop_at = max(asked.values()) + 1

    # Signs of life

    def at(self, step, doing):
        """The next beat tells that this host is at `step`, doing what `doing` says."""
        self._place = {"step": step, "doing": doing}

    def places(self) -> list[dict]:
        """Of each host its last known `step`, what it was `doing`, and the `silent_s` since."""
        now = time.monotonic()
        held = [dict(seen, silent_s=now - since) for seen, since in map(self._seen.get, range(self.count))]
        held[self.index] |= self._place | {"silent_s": 0.0}
        return held

    def silent(self) -> str | None:
        """A sentence about the host that has given no sign of life for `silent_s`, if there is one."""
        if self.count == 1 or self._over.is_set():
            return None
        now = time.monotonic()
        since = {host: now - self._seen[host][1] for host in range(self.count) if host != self.index}
        if now - self._answered_s > self.silent_s:  # then nothing is known of the others either
            since = {0: now - self._answered_s}
        host, seconds = max(since.items(), key=lambda item: item[1])
        if seconds <= self.silent_s:
            return None
        return (
            f"host {host} has given no sign of life for {seconds:.0f} s (it was at step "
            f"{self._seen[host][0]['step']:,}): it was killed, is frozen or lost its network; {AGAIN}"
        )

    def _beats(self):
        while not self._over.wait(BEAT_S):
            try:
                self._exchange()
            except RuntimeError:
                self.lost()

    def _exchange(self):
        self._beat += 1
        self._set(f"life/beat/{self.index}", {"beat": self._beat} | self._place)
        if self.signal:
            self._set(f"life/signal/{self.index}", self.signal)
        told, now = self._dir("life"), time.monotonic()
        self._answered_s = now
        for key, seen in told.items():
            what, _, host = key.partition("/")
            if what == "beat" and seen["beat"] != self._seen[int(host)][0]["beat"]:
                self._seen[int(host)] = seen, now
            elif what == "fault":
                self.leave(seen["sentence"], seen["code"], told=seen["sentence"])
            elif what == "signal" and self._stop_at is None:
                self._meet(seen)

    def _set(self, key, value):
        self.store.key_value_set(f"{ROOM}/{key}", json.dumps(value), allow_overwrite=True)

    def _dir(self, room):
        found = self.store.key_value_dir_get(f"{ROOM}/{room}/")
        return {key.removeprefix(f"{ROOM}/{room}/"): json.loads(value) for key, value in found}


def devices() -> list:
    """All devices of all hosts, each host's together: so a host's rows of a batch are one block of it.

    By their ids alone those of v3 and v5e are not: host 0 of v5e:4x4 has 0, 1, 4 and 5.
    """
    return sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
