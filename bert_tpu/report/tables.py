"""What a report says in numbers and words: for one run, and for several beside each other."""

import json
import math
from typing import Any, NamedTuple

from bert_tpu.monitoring import hours
from bert_tpu.report import card_sections, curves
from bert_tpu.training import workdir

NOT_MEASURED = "not measured"
SHOWN = 5  # evaluations whose samples are shown
Table = dict[str, list[tuple[str, list[str]]]]  # what -> [(of which, [each run's value])]


class Spent(NamedTuple):
    """Of each phase what each run spent on it, as (so many units, share of its whole)."""

    unit: str
    phases: list[tuple[str, list[tuple[float, float]]]]


class Samples(NamedTuple):
    """Texts {"text", "places": [{"truth", "guesses"}]}; a place has guesses for each of `names`, [] where none are."""

    names: list[str]
    texts: list[dict[str, Any]]


def figures(runs) -> Table:
    """The key figures; NOT_MEASURED where there is none."""
    return _beside([_of_tuning(run) if run.is_tuning else _of_pretraining(run) for run in runs])


def hashes(runs) -> Table:
    """What the runs are known by."""
    return _beside([[(what, "", value) for what, value in run.hashes.items()] for run in runs])


def config(runs) -> list[tuple[str, list[str], bool]]:
    """(key, each run's value as JSON, whether they differ) of all keys; paths without their folders."""
    flat = [workdir.flatten(run.found.config) for run in runs]
    keys = sorted({key for one in flat for key in one})
    rows = [(key, [json.dumps(card_sections.public(one[key])) if key in one else "" for one in flat]) for key in keys]
    return [(key, values, len(set(values)) > 1) for key, values in rows]


def hours_spent(runs) -> Spent:
    """Where the hours went, in minutes where they are few; no phases where no run has any."""
    each = [run.found.hours.get("seconds", {}) for run in runs]
    wholes = [sum(seconds.values()) or 1.0 for seconds in each]
    unit, unit_s = ("minutes", 60) if max(wholes) < 2 * 3600 else ("hours", 3600)
    phases = []
    for phase in (*hours.PHASES, "lost"):
        spent = [seconds.get(phase, 0.0) for seconds in each]
        if any(spent):
            phases.append((phase, [(s / unit_s, s / whole) for s, whole in zip(spent, wholes, strict=True)]))
    return Spent(unit, phases)


def samples(runs) -> Samples:
    """The newest evaluation's texts: of one run at a few of its steps, of several those that all have at their ends."""
    if len(runs) == 1:
        lines = _few(runs[0].samples)
        names = [f"step {line['step']:,}" for line in lines]
    else:
        lines = [run.samples[-1] if run.samples else {"step": 0, "samples": []} for run in runs]
        names = [f"{curves.run_letter(number)}, step {line['step']:,}" for number, line in enumerate(lines)]
    each = [{row["text"]: row["places"] for row in line["samples"]} for line in lines]
    texts = [
        {"text": text, "places": [
            {"truth": place["truth"], "guesses": [_guesses(of.get(text, ()), i, place["truth"]) for of in each]}
            for i, place in enumerate(places)
        ]}
        for text, places in (each[-1] if each else {}).items() if len(runs) == 1 or all(text in of for of in each)
    ]  # fmt: skip
    return Samples(names, texts)


def _few(samples):
    """The first, the last, and between them those at the powers that part them best."""
    last = len(samples) - 1
    steps = {round(last ** (i / (SHOWN - 2))) for i in range(SHOWN - 1)} if last > 0 else set()
    return [samples[i] for i in sorted({0, *steps} & set(range(last + 1)))] if samples else []


def _guesses(places, number, truth):
    if number >= len(places):
        return []
    return [
        {"piece": piece, "share": _number(p, "{:.0%}") if not p < 0.005 else "<1%", "is_right": piece == truth}
        for piece, p in places[number]["top"]
    ]


def _of_pretraining(run):
    """(what, of which rows, value) of a pretraining."""
    held = sorted(run.found.heldout.items())
    commoner = run.facts.commoner if run.facts else {}
    section = run.found.config.get("model")
    figures = [("size", "", card_sections.size(section) if section else "")]
    for name, what, form in (
        ("mlm_loss", "held-out MLM loss, nats", "{:.3f}"),
        ("mlm_accuracy", "held-out MLM accuracy", "{:.1%}"),
        ("nsp_accuracy", "held-out NSP accuracy", "{:.1%}"),
    ):
        figures += [(what, f"{n} tokens", _number(line.get(name), form)) for n, line in held] or [(what, "", "")]
        if name == "mlm_loss" and run.facts:
            figures.append((what, "unigram entropy", f"{run.facts.unigram_entropy:.3f}"))
        if name == "nsp_accuracy":
            figures += [(what, f"commoner label, {n}", f"{share:.1%}") for n, share in sorted(commoner.items())]
    return figures + _costs(run)


def _of_tuning(run):
    """(what, of which, value) of a fine-tuning; scores are means over seeds."""
    config = run.found.config
    start = card_sections.public(config.get("init_from", ""))
    figures = [("task", "", config["task"].get("name", "")), ("started from", "", start)]
    for split, metrics in run.scores.get("summary", {}).items():
        for name, told in metrics.items():
            what = f"{name.replace('_', ' ')}, {split}"
            seeds = len(run.scores.get("seeds", ()))
            figures.append((what, f"mean of {seeds} seeds" if seeds > 1 else "", f"{told['mean']:.4f}"))
            if seeds > 1:
                figures.append((what, "deviation", f"{told['std']:.4f}"))
            common = run.scores.get("commonest_class", {}).get(split, {})
            if name in common:
                figures.append((what, "commonest class", f"{common[name]:.4f}"))
    if not run.scores:
        figures.append(("scores", "", ""))
    return figures + _costs(run)


def _costs(run):
    found = run.found
    seconds = sum(found.hours.get("seconds", {}).values())
    rates = [("examples a second", f"{n} tokens", f"{rate:,.0f}") for n, rate in found.examples_per_s.items()]
    energy = "{:.2g} to {:.2g}".format(*found.energy.kwh) if found.energy else ""
    recomputed = found.skips.recomputed if found.skips else 0
    newest = "" if run.checkpoint is None else f"step {run.checkpoint:,}"
    return [
        *(rates or [("examples a second", "", "")]),
        ("steps skipped", "", str(found.skips) if found.skips else ""),
        *([("steps computed again", "exact softmax", f"{recomputed:,}")] if recomputed else []),
        ("hours, restarts included", "", hours.in_hours(seconds) if seconds else ""),
        ("energy, kWh, an estimate", "", energy),
        ("newest checkpoint", "", newest),
    ]


def _number(value, form):
    if not isinstance(value, int | float):
        return ""
    return form.format(value) if math.isfinite(value) else "not finite"


def _beside(each):
    """[(what, of which, value)] of each run -> {what: [(of which, [each run's value])]}."""
    tables = [{(what, of): value or NOT_MEASURED for what, of, value in rows} for rows in each]
    found = {}
    for what, of in dict.fromkeys(key for table in tables for key in table):
        found.setdefault(what, []).append((of, [table.get((what, of), NOT_MEASURED) for table in tables]))
    return found
