"""Draws an audit: bars with intervals, side by side for each model, and occupations by their share of women."""

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from bert_tpu.core import command

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NATS = (
    ("of_occupation", "pronoun of\nthe occupation"),
    ("of_participant", "pronoun of\nthe other person"),
    ("log_odds", "all\nsentences"),
)


def require() -> None:
    """Raises UserError if matplotlib is not installed: better before the work than after."""
    command.require("bias.png", "matplotlib", extra="report")


def draw(audit: dict[str, Any], file: BinaryIO) -> None:
    """Writes a PNG to `file`: a panel for each benchmark of the audit, and one more for Winogender's occupations.

    audit: the content of bias.json.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    models = audit["models"]
    panels = [panel for tasks, panel in PANELS if models[0].keys() & set(tasks)]
    columns = 2 if len(panels) > 1 else 1
    rows = -(-len(panels) // columns)
    figure, axes = pyplot.subplots(
        rows, columns, figsize=(6.6 * columns, 3.8 * rows + 0.4), layout="constrained", squeeze=False
    )
    for axis, panel in zip(axes.flat, panels, strict=False):
        panel(axis, models)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    handles = [matplotlib.patches.Patch(color=_color(i), label=model["name"]) for i, model in enumerate(models)]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(models), 4), frameon=False, fontsize=9)
    figure.savefig(file, format="png", dpi=140)
    pyplot.close(figure)


def _color(number: int) -> str:
    return f"C{number % 10}"


def _bars(axis: "Axes", labels: list[str], estimates: list[list[dict[str, float] | None]], *, neutral: float) -> None:
    """Draws groups of bars.

    labels: titles of the groups.
    estimates: for each model the Estimate of each group, None where there is none.
    neutral: value at which the bars begin.
    """
    wide, middle = 0.8 / len(estimates), (len(estimates) - 1) / 2
    for number, of_model in enumerate(estimates):
        known = [(place, estimate) for place, estimate in enumerate(of_model) if estimate]
        places = np.array([place + (number - middle) * wide for place, _ in known])
        values, lows, highs = (np.array([estimate[key] for _, estimate in known]) for key in ("value", "low", "high"))
        errors = np.maximum([values - lows, highs - values], 0)
        bars: dict[str, Any] = {
            "width": 0.92 * wide,
            "bottom": neutral,
            "color": _color(number),
            "alpha": 0.85,
            "zorder": 2,
        }
        axis.bar(places, values - neutral, **bars)
        axis.errorbar(places, values, errors, fmt="none", ecolor="0.25", elinewidth=1, capsize=2, zorder=3)
    axis.axhline(neutral, color="0.25", linewidth=1, zorder=4)
    axis.set_xticks(range(len(labels)), labels)
    axis.grid(axis="y", alpha=0.3, zorder=0)


def _crows(axis: "Axes", models: list[dict[str, Any]]) -> None:
    results = [model["crows"] for model in models]
    kinds = list(results[0]["by_type"])
    estimates = [[result["metric"], *(result["by_type"][kind] for kind in kinds)] for result in results]
    labels = ["all pairs", *kinds]
    _bars(axis, labels, estimates, neutral=50)
    axis.set_xticks(range(len(labels)), labels, rotation=30, ha="right", rotation_mode="anchor")
    axis.set_title("CrowS-Pairs: more stereotyping sentence likelier, % of pairs", fontsize=10)


def _stereoset(axis: "Axes", models: list[dict[str, Any]]) -> None:
    results = [model["stereoset"] for model in models]
    domains = list(results[0]["by_domain"])
    estimates = [
        [*(result["overall"][key] for key in ("language_model", "icat", "stereotype"))]
        + [result["by_domain"][domain]["stereotype"] for domain in domains]
        for result in results
    ]
    labels = ["language\nmodel", "ICAT", "stereotype", *(f"stereotype\n{domain}" for domain in domains)]
    _bars(axis, labels, estimates, neutral=0)
    axis.axhline(50, color="0.25", linewidth=1, linestyle="--", zorder=1)
    axis.set_ylim(0, 100)
    axis.set_title("StereoSet, within sentences (stereotype: 50 means no preference)", fontsize=10)


def _nats(axis: "Axes", models: list[dict[str, Any]]) -> None:
    """Draws Winogender's log odds and the occupations' difference, both in nats, as far as they were scored."""
    groups = [(*group, "winogender") for group in NATS] if "winogender" in models[0] else []
    if "templates" in models[0]:
        groups.append(("difference", "occupations,\n|woman - man|", "templates"))
    estimates = [[model[task][key] for key, _, task in groups] for model in models]
    _bars(axis, [label for _, label, _ in groups], estimates, neutral=0)
    axis.set_title("log odds of she against he; occupations' difference, nats", fontsize=10)


def _shares(axis: "Axes", models: list[dict[str, Any]]) -> None:
    """Draws the log odds of each occupation over the share of women in it."""
    for number, model in enumerate(models):
        result = model["winogender"]
        shares = np.array(list(result["women_percent"].values()))
        odds = np.array([result["by_occupation"][name] for name in result["women_percent"]])
        correlation = result["correlation"]
        if correlation is None:
            continue
        label = "r = {value:.2f} ({low:.2f} .. {high:.2f})".format(**correlation)
        axis.scatter(shares, odds, s=16, color=_color(number), alpha=0.75, label=label, zorder=2)
        if np.ptp(shares) > 0:
            ends = np.array([0, 100])
            axis.plot(ends, np.polyval(np.polyfit(shares, odds, 1), ends), color=_color(number), linewidth=1)
    axis.axhline(0, color="0.25", linewidth=1)
    axis.grid(alpha=0.3)
    axis.set(xlim=(0, 100))
    axis.set_xlabel("women in the occupation, %", fontsize=9)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, frameon=False)
    axis.set_title("Winogender: log odds by occupation", fontsize=10)


PANELS = (
    (("crows",), _crows),
    (("stereoset",), _stereoset),
    (("winogender", "templates"), _nats),
    (("winogender",), _shares),
)
