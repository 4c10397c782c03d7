"""How a run's hours went: what it did for how long, added up over all of its starts in W/hours.json."""

import json
import os
import pathlib
import time

from etils import epath

from bert_tpu.core import storage

WRITE_S = 10  # a bucket takes an object about once a second
PHASES = ("start", "compile", "input", "step", "evaluation", "checkpoint")


class Hours:
    """The clock of one start, which is always in one phase, on top of what the starts before it took."""

    def __init__(self, directory, *, writes, units, age_s=0.0):
        """In phase "start" since `age_s` seconds ago. Only the process that `writes` touches W/hours.json.

        units: {kind: how many} of what computes, as energy.count_units has them; "unit_seconds" adds up their time.
        """
        self._path, self._writes = epath.Path(directory) / "hours.json", writes
        self._phase, self._since_s = "start", time.monotonic() - age_s
        self._units = units
        self._held = {
            "starts": 0, "lost_steps": 0, "seconds": dict.fromkeys((*PHASES, "lost"), 0.0), "unit_seconds": {},
        }  # fmt: skip
        self._saved, self._written_s = {}, -WRITE_S

    def resume(self, first_step):
        """Adds itself to what W/hours.json holds of earlier starts; what they did past `first_step` is lost."""
        if self._path.exists():
            self._held |= json.loads(self._path.read_text())
            unsaved = self._held.pop("unsaved")
            if unsaved["step"] > first_step:
                self._held["lost_steps"] += unsaved["step"] - first_step
                for phase, seconds in unsaved["seconds"].items():
                    self._held["seconds"][phase] -= seconds
                    self._held["seconds"]["lost"] += seconds
        self._held["starts"] += 1
        self.mark_saved()

    def enter(self, phase):
        """Begins `phase`, one of PHASES but "input": `add_input_wait` takes its seconds from "step"."""
        now_s = time.monotonic()
        spent_s = now_s - self._since_s
        self._held["seconds"][self._phase] += spent_s
        for kind, number in self._units.items():
            self._held["unit_seconds"][kind] = self._held["unit_seconds"].get(kind, 0.0) + number * spent_s
        self._phase, self._since_s = phase, now_s

    def add_input_wait(self, seconds):
        """Moves so many seconds, in which the devices waited for input, from phase "step" to phase "input"."""
        self._held["seconds"]["step"] -= seconds
        self._held["seconds"]["input"] += seconds

    def mark_saved(self):
        """A checkpoint holds all that was done up to now."""
        self.enter(self._phase)
        self._saved = dict(self._held["seconds"])

    def write(self, step, within_s=0):
        """W/hours.json is right up to now, when `step` is finished, or it was no more than `within_s` seconds ago."""
        self.enter(self._phase)
        if not self._writes or self._since_s - self._written_s < within_s:
            return
        self._written_s = self._since_s
        since = {phase: seconds - self._saved[phase] for phase, seconds in self._held["seconds"].items()}
        content = self._held | {"unsaved": {"step": step, "seconds": since}}
        storage.write_text(self._path, json.dumps(content, indent=1) + "\n")

    def summary(self) -> str:
        """The whole run's hours in one line, shares of the largest first."""
        self.enter(self._phase)
        seconds, starts = self._held["seconds"], self._held["starts"]
        whole = sum(seconds.values())
        shares = sorted(seconds.items(), key=lambda item: -item[1])
        told = ", ".join(f"{phase} {share / whole:.1%}" for phase, share in shares if share)
        lost = f" ({self._held['lost_steps']:,} steps done twice)" if self._held["lost_steps"] else ""
        hours, minutes = divmod(round(whole / 60), 60)
        return f"{hours:,} h {minutes:02} min in {starts} start{'s' * (starts > 1)}: {told}{lost}"


def in_hours(seconds) -> str:
    """As hours: to the hundredth, or of a few minutes two digits."""
    hours = seconds / 3600
    return f"{hours:,.2f}" if hours >= 0.1 else f"{hours:.2g}"


def process_age_s() -> float:
    """Seconds since this process began; 0 where the system does not say (it is Linux that does)."""
    try:
        began = int(pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return float(pathlib.Path("/proc/uptime").read_text().split()[0]) - began / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0
