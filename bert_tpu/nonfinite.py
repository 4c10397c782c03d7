"""Steps whose loss or gradient is not finite: counted, and after too many in a row handed over to whoever mends it."""

import base64
import json

from etils import epath
import numpy as np

from bert_tpu import checkpoint, command, fingerprint

FILE, FOLDER = "nonfinite.json", "nonfinite"


class Skips:
    """The steps in a row that were skipped last; a step counts from 0 here, as in tools.show_batches."""

    def __init__(self, *, stop_after):
        """stop_after: so many in a row exhaust the run's patience; 0: none do."""
        self.steps, self._stop_after = [], stop_after

    def take(self, finished, seq_len, sums):
        """Takes the sums of the step that is the `finished`-th."""
        if self.exhausted():
            return
        if sums["skipped"][0]:
            self.steps.append((finished - 1, seq_len))
        else:
            self.steps.clear()

    def exhausted(self) -> bool:
        """True from the step on that was one too many."""
        return 0 < self._stop_after <= len(self.steps)


def give_up(directory, skips, state, batches, facts, group, mend):
    """Writes W/nonfinite.json and the parameters beside it, and raises the UserError that the run ends with.

    All hosts call it. batches: iterator of (seq_len, this host's rows) from the first skipped step on.
    facts: what else tells of the run: seed and hashes. mend: what the UserError advises, where {step} is the first one.
    """
    steps = []
    for (step, _), (seq_len, rows) in zip(skips.steps, batches, strict=False):
        steps.append({"step": step, "seq_len": seq_len, "sha256": fingerprint.sha256(_whole(rows, group))})
    checkpoint.save_params(epath.Path(directory) / FOLDER, state.params)
    first, last = steps[0]["step"], steps[-1]["step"]
    if group.index == 0:
        content = facts | {"params_step": int(state.step), "steps": steps}
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

    They are those that a run left when it gave up at this step, or else of its newest checkpoint at or before it.
    """
    directory = epath.Path(directory)
    if (directory / FILE).exists():
        told = json.loads((directory / FILE).read_text())
        if step in [skipped["step"] for skipped in told["steps"]]:
            return directory / FOLDER, 0
    steps = [int(path.name) for path in (directory / "checkpoints").glob("*") if path.name.isdigit()]
    earlier = [number for number in steps if number <= step]
    if not earlier:
        raise command.UserError(
            f"{directory} has no checkpoint at or before step {step:,}: its steps are {sorted(steps)}"
        )
    return directory / "checkpoints" / str(max(earlier)), step - max(earlier)
