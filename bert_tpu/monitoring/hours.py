"""Adds up the time of each phase of a run over all of its starts, in W/hours.json."""

import json
import os
import pathlib
import time
from typing import Any

from etils import epath

from bert_tpu.core import command, json_files, numerals, storage

FILE = "hours.json"
WRITE_S = 10  # a bucket takes an object about once a second
PHASES = ("start", "compile", "input", "step", "evaluation", "checkpoint")
SHAPE = {"starts": int, "lost_steps": int, "seconds": {str: float}}
KEPT_SAVES = 8  # of which the times are kept; a restart may have to go back by more than one


class Hours:
    """The clock of one start. It is always in one phase, and adds to the times of earlier starts."""

    def __init__(
        self, directory: str | os.PathLike, *, writes: bool, units: dict[str, int], began_s: float | None = None
    ):
        """Begins in phase "start", at `began_s` of time.monotonic; None: now.

        writes: True in the one process that writes W/hours.json
        units: {kind: number of units that compute}, as energy.count_units returns; "unit_seconds" adds up their time
        """
        self._path, self._writes = epath.Path(directory) / FILE, writes
        self._phase, self._since_s = "start", time.monotonic() if began_s is None else began_s
        self._units = units
        self._totals: dict[str, Any] = {
            "starts": 0, "lost_steps": 0, "seconds": dict.fromkeys((*PHASES, "lost"), 0.0), "unit_seconds": {},
        }  # fmt: skip
        self._saves: dict[int, dict[str, float]] = {}  # step of a checkpoint -> the times up to then
        self._written_s: float = -WRITE_S

    def resume(self, first_step: int) -> None:
        """Adds the earlier starts from W/hours.json. Their time after `first_step`, the restored step, is lost."""
        if self._path.exists():
            content = json_files.read(self._path, SHAPE | {"unsaved": {"step": int, "seconds": {str: float}}})
            unsaved = content.pop("unsaved")
            saves = unsaved.get("saves", {})  # not in files of earlier releases
            if json_files.misfit(saves, {str: {str: float}}):
                raise command.UserError(f"{self._path} is damaged (unsaved.saves): restore it or delete it")
            saves = {int(step): seconds for step, seconds in saves.items() if step.isdecimal()}
            now = content["seconds"]
            self._totals |= content | {"seconds": self._totals["seconds"] | now}
            if unsaved["step"] > first_step:
                self._totals["lost_steps"] += unsaved["step"] - first_step
                # Earlier releases kept the times of the newest save alone, which may not have been completed.
                lost = (
                    {phase: s - saves[first_step].get(phase, 0.0) for phase, s in now.items()}
                    if first_step in saves
                    else unsaved["seconds"]
                )
                for phase, seconds in lost.items():
                    self._totals["seconds"][phase] -= seconds
                    self._totals["seconds"]["lost"] += seconds
            self._saves = {step: seconds for step, seconds in saves.items() if step < first_step}
        self._totals["starts"] += 1
        self.mark_saved(first_step)

    def enter(self, phase: str) -> None:
        """Begins `phase`, one of PHASES except "input": `add_input_wait` takes its seconds from "step"."""
        now_s = time.monotonic()
        spent_s = now_s - self._since_s
        self._totals["seconds"][self._phase] += spent_s
        for kind, number in self._units.items():
            self._totals["unit_seconds"][kind] = self._totals["unit_seconds"].get(kind, 0.0) + number * spent_s
        self._phase, self._since_s = phase, now_s

    def add_input_wait(self, seconds: float) -> None:
        """Moves `seconds`, in which the devices waited for input, from phase "step" to phase "input"."""
        self._totals["seconds"]["step"] -= seconds
        self._totals["seconds"]["input"] += seconds

    def mark_saved(self, step: int) -> None:
        """Notes that a checkpoint of `step`, the last finished one, is saved or will be."""
        self.enter(self._phase)
        self._saves[step] = dict(self._totals["seconds"])
        self._saves = dict(sorted(self._saves.items())[-KEPT_SAVES:])

    def write(self, step: int, within_s: float = 0) -> None:
        """Writes W/hours.json, unless it was written less than `within_s` seconds ago. step: the last finished step."""
        self.enter(self._phase)
        if not self._writes or self._since_s - self._written_s < within_s:
            return
        self._written_s = self._since_s
        saved = self._saves[max(self._saves)]
        since = {phase: seconds - saved[phase] for phase, seconds in self._totals["seconds"].items()}
        content = self._totals | {"unsaved": {"step": step, "seconds": since, "saves": self._saves}}
        storage.write_text(self._path, json.dumps(content, indent=1) + "\n")

    def summary(self) -> str:
        """The hours of the whole run in one line, with the share of each phase, the largest first."""
        self.enter(self._phase)
        seconds, starts = self._totals["seconds"], self._totals["starts"]
        whole = sum(seconds.values())
        by_share = sorted(seconds.items(), key=lambda item: -item[1])
        shares = ", ".join(f"{phase} {share / whole:.1%}" for phase, share in by_share if share)
        lost = (
            f" ({numerals.count(self._totals['lost_steps'], 'step')} done twice)" if self._totals["lost_steps"] else ""
        )
        hours, minutes = divmod(round(whole / 60), 60)
        return f"{hours:,} h {minutes:02} min in {numerals.count(starts, 'start')}: {shares}{lost}"


def read(directory: str | os.PathLike) -> dict[str, Any]:
    """The content of W/hours.json; {} if there is none. Raises UserError if the file is damaged.

    Runs before 2026-11 have no "unit_seconds".
    """
    return json_files.read_if_any(epath.Path(directory) / FILE, SHAPE)


def in_hours(seconds: float) -> str:
    """`seconds` as hours with two decimals; below 0.1 hours with two significant digits."""
    hours = seconds / 3600
    return f"{hours:,.2f}" if hours >= 0.1 else f"{hours:.2g}"


def process_began_s() -> float:
    """The moment when this process began, in seconds of time.monotonic."""
    return time.monotonic() - process_age_s()


def process_age_s() -> float:
    """Seconds since this process began; 0 on systems without Linux's /proc."""
    try:
        began = int(pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        return float(pathlib.Path("/proc/uptime").read_text().split()[0]) - began / os.sysconf("SC_CLK_TCK")
    except OSError:
        return 0.0
