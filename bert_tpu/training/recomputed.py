"""The steps that were computed again with the exact softmax: their share, and from when on it costs too much."""

SHARE = 0.01  # of the steps; each costs the fast step twice more and the exact one


class Recomputed:
    """Counts the steps since the last evaluation, and those of them that were computed again."""

    def __init__(self):
        """Begins at 0."""
        self._steps = self._recomputed = 0

    def take(self, sums):
        """Counts one step, by its sums; as computed again, if the exact form could take it."""
        skipped, trainings = sums["skipped"]
        self._steps += 1
        self._recomputed += bool(sums.get("recomputed", (0, 1))[0]) and skipped < trainings

    def remark(self) -> str | None:
        """Returns a sentence where more than SHARE were computed again, and begins anew."""
        share = self._recomputed / max(self._steps, 1)
        self._steps = self._recomputed = 0
        if share <= SHARE:
            return None
        return (
            f"{share:.1%} of the steps since the last evaluation were computed again with the exact softmax, because "
            "the fast form could not take their scores: --config.model.softmax=exact would be faster for this run"
        )
