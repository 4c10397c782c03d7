"""Steps whose loss or gradient is not finite: counted, reported, and after too many in a row the end of a run."""

import base64
import json

from etils import epath
import numpy as np

from bert_tpu.core import command, hashing
from bert_tpu.training import checkpoint

FILE, FOLDER = "nonfinite.json", "nonfinite"
LEAST = 0.01  # share of skipped steps that a run is warned of
NAMED = 5  # skipped steps that the warning names besides the last
NOTHING = {"steps": 0, "skipped": [], "first": [], "last": None}


class Skips:
    """The skipped steps: those in a row that came last, and those since the last report.

    A step counts from 0 here, as in tools.show_batches.
    """

    def __init__(self, *, stop_after, unreported=None):
        """stop_after: so many in a row exhaust the run's patience; 0: none do. unreported: as `unreported` was."""
        self.steps, self._stop_after = [], stop_after
        self.unreported = unreported or dict(NOTHING)

    def take(self, finished, seq_len, sums):
        """Takes the sums of the step that is the `finished`-th, of several trainings an array of each."""
        skipped, last = np.atleast_1d(sums["skipped"][0]), self.unreported
        counts = skipped + np.array(last["skipped"] or [0.0])
        self.unreported = last | {"steps": last["steps"] + 1, "skipped": counts.tolist()}
        if skipped.any():
            self.steps.append((finished - 1, seq_len))
            self.unreported |= {"first": [*last["first"], finished - 1][:NAMED], "last": finished - 1}
        else:
            self.steps.clear()

    def exhausted(self) -> bool:
        """True from the step on that was one too many."""
        return 0 < self._stop_after <= len(self.steps)

    def is_last_chance(self) -> bool:
        """Whether one more step would exhaust the patience."""
        return 0 < self._stop_after <= len(self.steps) + 1

    def report(self, mend) -> str:
        """Returns a sentence on the steps since the last report where LEAST of them were skipped, else "".

        Of several trainings, LEAST of the steps of one are enough. mend: as `give_up` takes it.
        """
        recent, self.unreported = self.unreported, dict(NOTHING)
        steps, counts = recent["steps"], [round(count) for count in recent["skipped"]]
        if not steps or max(counts) < LEAST * steps:
            return ""
        of_all = f" of one seed, {sum(counts):,} of all {len(counts)} seeds together," if len(counts) > 1 else ""
        named = ", ".join(f"{step:,}" for step in recent["first"])
        more = f" .. {recent['last']:,}" if recent["last"] > recent["first"][-1] else ""
        return (
            f"{max(counts):,} of the last {steps:,} steps ({max(counts) / steps:.1%}){of_all} had no finite loss or "
            f"gradient and changed nothing; the skipped steps, counted from 0, are {named}{more}; "
            f"{mend.format(step=recent['first'][0])}"
        )


def give_up(directory, skips, state, batches, facts, group, mend):
    """Writes W/nonfinite.json and W/nonfinite, the parameters, and raises the UserError that the run ends with.

    All hosts call it. state: as the skipped steps left it, for no sound step came after them. batches: iterator of
    (seq_len, this host's rows) from the first skipped step on. facts: what else identifies the run: seed and hashes.
    mend: advice for the UserError, where {step} is the first skipped step.
    """
    steps = []
    for (step, _), (seq_len, rows) in zip(skips.steps, batches, strict=False):
        steps.append({"step": step, "seq_len": seq_len, "sha256": hashing.batch_sha256(_whole(rows, group))})
    checkpoint.save_params(epath.Path(directory) / FOLDER, state.params)
    first, last = steps[0]["step"], steps[-1]["step"]
    if group.index == 0:
        content = facts | {"steps": steps}
        (epath.Path(directory) / FILE).write_text(json.dumps(content, indent=1) + "\n")
    raise command.UserError(
        f"{len(steps)} steps in a row, {first:,} to {last:,}, had a loss or a gradient that is not finite, and were "
        f"skipped: {epath.Path(directory) / FILE} names their batches; {mend.format(step=first)}"
    )


def _whole(rows, group):
    """The global batch, from each host's rows."""
    packed = {name: base64.b85encode(np.ascontiguousarray(value, "<i4")).decode() for name, value in rows.items()}
    parts = group.gather(packed)
    return {
        name: np.concatenate(
            [np.frombuffer(base64.b85decode(part[name]), "<i4").reshape(-1, *value.shape[1:]) for part in parts]
        )
        for name, value in rows.items()
    }


def params_of(directory, step):
    """The parameters that `step` (from 0) was computed from or the nearest before it: (checkpoint, steps missing).

    They are those that a run left when it gave up at this step, unless it has gone on since and has a later checkpoint;
    or else of its newest checkpoint at or before it.
    """
    directory = epath.Path(directory)
    steps = [int(path.name) for path in (directory / "checkpoints").glob("*") if path.name.isdigit()]
    if (directory / FILE).exists():
        skipped = [each["step"] for each in json.loads((directory / FILE).read_text())["steps"]]
        if step in skipped and max(steps, default=0) <= skipped[-1] + 1:
            return directory / FOLDER, 0
    earlier = [number for number in steps if number <= step]
    if not earlier:
        raise command.UserError(
            f"{directory} has no checkpoint at or before step {step:,}: its steps are {sorted(steps)}"
        )
    return directory / "checkpoints" / str(max(earlier)), step - max(earlier)
