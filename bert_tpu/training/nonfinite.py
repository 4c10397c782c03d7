"""Steps whose loss or gradient is not finite: counted, reported, and the end of a run after too many in a row.

Such a step is skipped: it changes nothing (train_step.jit_step).
"""

import base64
from collections.abc import Iterator
import json
from typing import Any, NoReturn

from etils import epath
import numpy as np

from bert_tpu.core import command, hashing, json_files, numerals, storage
from bert_tpu.distributed import hosts
from bert_tpu.training import checkpoint_steps, jobs, saved_params

FILE, FOLDER = "nonfinite.json", "nonfinite"
LEAST = 0.01  # share of skipped steps from which on a run warns
NAMED = 5  # first skipped steps that the warning names, next to the last one
NOTHING: dict[str, Any] = {"steps": 0, "skipped": [], "first": [], "last": None}


class SkippedSteps:
    """Counts the skipped steps: the last ones in a row, and those since the last report.

    `steps`: (step, sequence length) of the skipped steps in a row up to now. A step's number counts from 0 here, as in
    bert-tpu show-batches. `unreported`: the counts since the last report, as plain data for a checkpoint's meta.
    """

    def __init__(self, *, stop_after: int, unreported: dict[str, Any] | None = None) -> None:
        """Continues from `unreported` of an earlier start.

        stop_after: number of skipped steps in a row after which the run gives up; 0: never
        """
        self.steps: list[tuple[int, int]] = []
        self._stop_after = stop_after
        self.unreported = unreported or dict(NOTHING)

    def count(self, finished: int, seq_len: int, sums: jobs.HostSums) -> None:
        """Counts one step.

        finished: number of the step, counted from 1
        seq_len: tokens of a row
        sums: of the step; of several trainings an array each
        """
        skipped, last = np.ravel(sums["skipped"][0]).tolist(), self.unreported
        counts = [now + before for now, before in zip(skipped, last["skipped"] or [0.0] * len(skipped), strict=True)]
        self.unreported = last | {"steps": last["steps"] + 1, "skipped": counts}
        if any(skipped):
            self.steps.append((finished - 1, seq_len))
            self.unreported |= {"first": [*last["first"], finished - 1][:NAMED], "last": finished - 1}
        else:
            self.steps.clear()

    def is_exhausted(self) -> bool:
        """Returns whether so many steps in a row were skipped that the run gives up."""
        return 0 < self._stop_after <= len(self.steps)

    def is_last_chance(self) -> bool:
        """Returns whether one more skipped step would end the run."""
        return 0 < self._stop_after <= len(self.steps) + 1

    def report(self, advice: str) -> str:
        """Returns a warning about the steps since the last report if at least LEAST of them were skipped, else "".

        Of several trainings, LEAST of the steps of one are enough. advice: as in `give_up`.
        """
        recent, self.unreported = self.unreported, dict(NOTHING)
        steps, counts = recent["steps"], [round(count) for count in recent["skipped"]]
        if not steps or max(counts) < LEAST * steps:
            return ""
        of_all = f" of one seed, {sum(counts):,} of all {len(counts)} seeds together," if len(counts) > 1 else ""
        first_steps = ", ".join(f"{step:,}" for step in recent["first"])
        more = f" .. {recent['last']:,}" if recent["last"] > recent["first"][-1] else ""
        return (
            f"{max(counts):,} of the last {numerals.count(steps, 'step')} ({max(counts) / steps:.1%}){of_all} had no "
            f"finite loss or gradient and changed nothing; the skipped steps, counted from 0, are {first_steps}{more}; "
            f"{advice.format(step=recent['first'][0])}"
        )


def give_up(
    directory: epath.Path,
    skipped: SkippedSteps,
    state: jobs.State,
    batches: Iterator[tuple[int, jobs.Batch]],
    facts: dict[str, Any],
    group: hosts.Hosts,
    advice: str,
) -> NoReturn:
    """Writes W/nonfinite.json and the parameters, to W/nonfinite, and raises the UserError that ends the run.

    All hosts call it.
    directory: the workdir W
    state: as the skipped steps left it, for no sound step came after them
    batches: iterator of (sequence length, this host's rows) from the first skipped step on
    facts: seed and hashes, which identify the run
    advice: end of the UserError's sentence; {step} in it stands for the first skipped step
    """
    steps = []
    for (step, _), (seq_len, rows) in zip(skipped.steps, batches, strict=False):
        steps.append({"step": step, "seq_len": seq_len, "sha256": hashing.batch_sha256(_global_batch(rows, group))})
    saved_params.save_params(epath.Path(directory) / FOLDER, state.params)
    first, last = steps[0]["step"], steps[-1]["step"]
    if group.index == 0:
        content = facts | {"steps": steps}
        storage.write_text(epath.Path(directory) / FILE, json.dumps(content, indent=1) + "\n")
    raise command.UserError(
        f"{numerals.count(len(steps), 'step')} in a row, {first:,} to {last:,}, had a loss or a gradient that is not "
        f"finite, and changed nothing: {epath.Path(directory) / FILE} names their batches; {advice.format(step=first)}"
    )


def _global_batch(rows: jobs.Batch, group: hosts.Hosts) -> dict[str, np.ndarray]:
    """Returns the global batch, put together from each host's rows."""
    packed = {name: base64.b85encode(np.asarray(value, "<i4").tobytes()).decode() for name, value in rows.items()}
    parts = group.gather(packed)
    return {
        name: np.concatenate(
            [np.frombuffer(base64.b85decode(part[name]), "<i4").reshape(-1, *value.shape[1:]) for part in parts]
        )
        for name, value in rows.items()
    }


def read(directory: epath.Path | str) -> dict[str, Any]:
    """The content of W/nonfinite.json; {} if the run never gave up. Raises UserError if the file is damaged."""
    return json_files.read_if_any(epath.Path(directory) / FILE, {"steps": [{"step": int}]})


def params_of(directory: epath.Path | str, step: int) -> tuple[epath.Path, int]:
    """Returns (checkpoint, missing steps): the saved parameters that are nearest before `step`, counted from 0.

    missing steps: 0 if `step` was computed from exactly these parameters. A run that gave up at `step` left them in
    W/nonfinite; if it has gone on since and has a later checkpoint, the newest checkpoint at or before `step` is
    taken, as for any other step. Raises UserError if there is none.
    """
    directory = epath.Path(directory)
    steps = checkpoint_steps.of_workdir(directory)
    if record := read(directory):
        skipped = [entry["step"] for entry in record["steps"]]
        if step in skipped and max(steps, default=0) <= skipped[-1] + 1:
            return directory / FOLDER, 0
    earlier = [number for number in steps if number <= step]
    if not earlier:
        raise command.UserError(
            f"{directory} has no checkpoint at or before step {step:,}: its steps are {sorted(steps)}"
        )
    return directory / "checkpoints" / str(max(earlier)), step - max(earlier)
