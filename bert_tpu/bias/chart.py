"""An audit as a picture: bars side by side for each model, with their intervals, and occupations by share of women."""

from typing import Any, BinaryIO

import numpy as np

from bert_tpu.core import command

NATS = (
    ("of_occupation", "pronoun of\nthe occupation"),
    ("of_participant", "pronoun of\nthe other person"),
    ("log_odds", "all\nsentences"),
)


def require() -> None:
    """Raises UserError unless matplotlib is there: better before the work than after."""
    command.require("bias.png", "matplotlib", extra="report")


def draw(audit: dict[str, Any], file: BinaryIO) -> None:
    """Writes a PNG: a panel for each benchmark of the audit, and one more for Winogender's occupations."""
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


def _color(number):
    return f"C{number % 10}"


def _bars(axis, models, labels, each, neutral):
    """Groups of bars, one for each label; each: a list of Estimates for each model. `neutral`: where they begin."""
    wide, middle = 0.8 / len(models), (len(models) - 1) / 2
    for number, estimates in enumerate(each):
        there = [(place, one) for place, one in enumerate(estimates) if one]
        places = np.array([place + (number - middle) * wide for place, _ in there])
        values, lows, highs = (np.array([one[key] for _, one in there]) for key in ("value", "low", "high"))
        around = np.maximum([values - lows, highs - values], 0)
        bars = {"width": 0.92 * wide, "bottom": neutral, "color": _color(number), "alpha": 0.85, "zorder": 2}
        axis.bar(places, values - neutral, **bars)
        axis.errorbar(places, values, around, fmt="none", ecolor="0.25", elinewidth=1, capsize=2, zorder=3)
    axis.axhline(neutral, color="0.25", linewidth=1, zorder=4)
    axis.set_xticks(range(len(labels)), labels)
    axis.grid(axis="y", alpha=0.3, zorder=0)


def _crows(axis, models):
    results = [model["crows"] for model in models]
    kinds = list(results[0]["by_type"])
    each = [[of["metric"], *(of["by_type"][kind] for kind in kinds)] for of in results]
    _bars(axis, models, ["all pairs", *kinds], each, neutral=50)
    axis.set_xticks(axis.get_xticks(), axis.get_xticklabels(), rotation=30, ha="right", rotation_mode="anchor")
    axis.set_title("CrowS-Pairs: more stereotyping sentence likelier, % of pairs", fontsize=10)


def _stereoset(axis, models):
    results = [model["stereoset"] for model in models]
    domains = list(results[0]["by_domain"])
    each = [
        [of["overall"]["language_model"], of["overall"]["icat"], of["overall"]["stereotype"]]
        + [of["by_domain"][domain]["stereotype"] for domain in domains]
        for of in results
    ]
    labels = ["language\nmodel", "ICAT", "stereotype", *(f"stereotype\n{domain}" for domain in domains)]
    _bars(axis, models, labels, each, neutral=0)
    axis.axhline(50, color="0.25", linewidth=1, linestyle="--", zorder=1)
    axis.set_ylim(0, 100)
    axis.set_title("StereoSet, within sentences (stereotype: 50 is no preference)", fontsize=10)


def _nats(axis, models):
    """Winogender's log odds and the occupations' difference, whichever is there: both are in nats."""
    shown = [(*each, "winogender") for each in NATS] if "winogender" in models[0] else []
    if "templates" in models[0]:
        shown.append(("difference", "occupations,\n|woman - man|", "templates"))
    each = [[model[task][key] for key, _, task in shown] for model in models]
    _bars(axis, models, [label for _, label, _ in shown], each, neutral=0)
    axis.set_title("log odds of she against he; occupations' difference, nats", fontsize=10)


def _shares(axis, models):
    """Each occupation: how many of those in it are women, and what the model expects."""
    for number, model in enumerate(models):
        told = model["winogender"]
        shares = np.array(list(told["women_percent"].values()))
        odds = np.array([told["by_occupation"][name] for name in told["women_percent"]])
        correlation = told["correlation"]
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
