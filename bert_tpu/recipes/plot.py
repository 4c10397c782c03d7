"""Draws held-out loss over compute for all arms, with the references' power laws."""

from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np

from bert_tpu.core import storage
from bert_tpu.recipes import collected, experiment, gain, runs

# The palette of Okabe and Ito, which colour-blind people can tell apart.
COLORS = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9"
MARKERS = "o", "s", "^", "D", "v", "P"


def draw(
    plan: experiment.Experiment, finals: Sequence[runs.Run], results: collected.Results, out: pathlib.Path
) -> None:
    """Writes a PNG with a panel for each length; nothing while no run at a horizon is finished.

    A dot is a seed, a line joins the means, and the dashed lines are the fits of the references with three horizons.
    """
    horizon_runs = sorted((run for run in finals if run.kind == runs.AT_HORIZON), key=lambda run: run.flops)
    horizon_runs = [run for run in horizon_runs if collected.results_of(run, results)]
    if not horizon_runs:
        return
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot, ticker

    lengths = [length for length in collected.lengths_of(results) if length != collected.MEAN]
    figure, axes = pyplot.subplots(
        1, len(lengths), figsize=(5.2 * len(lengths), 3.8), layout="constrained", squeeze=False
    )
    for axis, length in zip(axes[0], lengths, strict=True):
        for number, arm in enumerate(plan.arms):
            own = [run for run in horizon_runs if run.arm == arm]
            turn, place = divmod(number, len(COLORS))
            style = {"color": COLORS[place], "marker": MARKERS[(place + turn) % len(MARKERS)]}
            _draw_arm(axis, arm, own, results, length, style)
            points = collected.reference_points(arm, horizon_runs, results, length)
            if arm in plan.references and points and len(points[0]) >= gain.CURVES["power"][1]:
                _draw_fit(axis, points, plan.horizons[-1], style["color"])
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 3.0)))  # more labels would overlap
        axis.xaxis.set_major_formatter(lambda flops, _: f"{flops:.0e}".replace("e+", "e"))
        axis.xaxis.set_minor_formatter(ticker.NullFormatter())
        axis.set_xlabel("FLOPs of a run")
        axis.set_ylabel(f"held-out MLM loss at {length} tokens, nats")
        axis.grid(which="both", linewidth=0.4)
        axis.legend()
    with storage.atomic_file(out) as file:
        figure.savefig(file, format="png", dpi=150)
    pyplot.close(figure)


def _draw_arm(
    axis: Any, arm: str, own: Sequence[runs.Run], results: collected.Results, length: str, style: dict[str, str]
) -> None:
    values = [collected.losses(run, results, length) for run in own]
    for run, losses in zip(own, values, strict=True):
        axis.plot([run.flops] * len(losses), losses, linestyle="", markersize=4, alpha=0.5, **style)
    axis.plot([run.flops for run in own], [losses.mean() for losses in values], markersize=6, label=arm, **style)


def _draw_fit(axis: Any, points: tuple[np.ndarray, np.ndarray], largest: float, color: str) -> None:
    share = np.geomspace(points[0][0], 4 * largest, 100) / points[0][-1]
    axis.plot(share * points[0][-1], gain.fit_means(*points).at(share), linestyle="--", linewidth=1, color=color)
