"""The results of runs, put together by run, length and seed, for tables and plots."""

from collections.abc import Mapping, Sequence
import math

import numpy as np

from bert_tpu.recipes import runs

Results = Mapping[str, runs.Result]
MEAN = "mean"  # in place of a length: the mean over the lengths


def results_of(run: runs.Run, results: Results) -> list[runs.Result]:
    """Returns the results of all seeds of a run, in the order of its seeds; [] if one is missing."""
    lines = [results.get(identity) for identity in run.identities.values()]
    return [line for line in lines if line is not None] if None not in lines else []


def mean_loss(run: runs.Run, results: Results) -> float | None:
    """Returns the mean of runs.loss over the seeds of a run; None if one is missing."""
    lines = results_of(run, results)
    return float(np.mean([runs.loss(line) for line in lines])) if lines else None


def have_diverged(trials: Sequence[runs.Run], results: Results) -> bool:
    """Returns whether an arm's trials are all finished, and none has a finite loss: it has nothing to choose."""
    return bool(trials) and all(mean_loss(run, results) == math.inf for run in trials)


def losses(run: runs.Run, results: Results, length: str) -> np.ndarray:
    """Returns the held-out MLM loss of each seed, [seeds]. If a seed diverged, its loss is infinity.

    length: of the rows, or MEAN for the mean over all lengths
    """
    return np.array(
        [runs.loss(line) if length == MEAN else runs.loss_at(line, length) for line in results_of(run, results)]
    )


def lengths_of(results: Results) -> list[str]:
    """Returns the held-out lengths, and MEAN in front if there are several."""
    lengths = list(next(iter(results.values()))["lengths"]) if results else []
    return [MEAN, *lengths] if len(lengths) > 1 else lengths


def reference_points(
    arm: str, horizon_runs: Sequence[runs.Run], results: Results, length: str
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns (compute [horizons], losses [seeds, horizons]) of an arm's finished runs with finite losses.

    None if fewer than two are finished.
    """
    own = [
        run for run in sorted(horizon_runs, key=lambda run: run.flops) if run.arm == arm and results_of(run, results)
    ]
    own = [run for run in own if np.isfinite(losses(run, results, length)).all()]
    if len(own) < 2:
        return None
    return np.array([run.flops for run in own]), np.stack([losses(run, results, length) for run in own], axis=1)
