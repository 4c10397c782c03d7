"""The tables of a report, for one run or for several next to each other."""

from collections.abc import Sequence
import json
import math
from typing import Any, NamedTuple

from bert_tpu.core import config as configs
from bert_tpu.monitoring import hours, metrics
from bert_tpu.report import card_sections, curves
from bert_tpu.report import run as runs_
from bert_tpu.training import workdir

NOT_MEASURED = "not measured"
MOST_SAMPLES = 5  # evaluations whose samples are on the page
Row = tuple[str, str, str]  # name, detail such as "128 tokens" or "", value or ""
Table = dict[str, list[tuple[str, list[str]]]]  # name -> [(detail, [each run's value])]


class PhaseTimes(NamedTuple):
    """The time of each phase: [(phase, [each run's (time in units, share of its total)])]."""

    unit: str
    phases: list[tuple[str, list[tuple[float, float]]]]


class Samples(NamedTuple):
    """Predictions for masked places: texts are {"text", "places": [{"truth", "guesses"}]}.

    A place has a list of guesses for each of `names`; it is empty if there are none.
    """

    names: list[str]
    texts: list[dict[str, Any]]


def figures(runs: Sequence[runs_.Run]) -> Table:
    """The key figures; NOT_MEASURED for those that a run does not have."""
    return _joined([_finetuning_figures(run) if run.is_tuning else _pretraining_figures(run) for run in runs])


def hashes(runs: Sequence[runs_.Run]) -> Table:
    """The SHA-256 hashes of the runs' files, and the versions of the code."""
    return _joined([[(name, "", value) for name, value in run.hashes.items()] for run in runs])


def config(runs: Sequence[runs_.Run]) -> list[tuple[str, list[str], bool]]:
    """[(key, [each run's value as JSON], True if the values differ)]; paths without their folders.

    A run of an older release shows the value of "off" for a key that another of `runs` has.
    """
    flat = [workdir.flatten(run.evidence.config) for run in runs]
    keys = sorted({key for one in flat for key in one})
    flat = [{key: value for key, value in configs.ADDED.items() if key in keys} | one for one in flat]
    rows = [(key, [json.dumps(card_sections.public(one[key])) if key in one else "" for one in flat]) for key in keys]
    return [(key, values, len(set(values)) > 1) for key, values in rows]


def phase_times(runs: Sequence[runs_.Run]) -> PhaseTimes:
    """The time of each phase, in minutes if all runs are below two hours; empty if no run has hours.json."""
    by_run = [run.evidence.hours.get("seconds", {}) for run in runs]
    totals = [sum(seconds.values()) or 1.0 for seconds in by_run]
    unit, unit_s = ("minutes", 60) if max(totals) < 2 * 3600 else ("hours", 3600)
    phases = []
    for phase in (*hours.PHASES, "lost"):
        times = [seconds.get(phase, 0.0) for seconds in by_run]
        if any(times):
            phases.append((phase, [(s / unit_s, s / total) for s, total in zip(times, totals, strict=True)]))
    return PhaseTimes(unit, phases)


def samples(runs: Sequence[runs_.Run]) -> Samples:
    """The predictions of a run at a few of its steps, or of several runs at their last steps for texts in common."""
    if len(runs) == 1:
        lines = _thinned(runs[0].samples)
        names = [f"step {line['step']:,}" for line in lines]
    else:
        lines = [run.samples[-1] if run.samples else {"step": 0, "samples": []} for run in runs]
        names = [f"{curves.run_letter(number)}, step {line['step']:,}" for number, line in enumerate(lines)]
    columns = [{row["text"]: row["places"] for row in line["samples"]} for line in lines]
    texts = []
    for text, places in (columns[-1] if columns else {}).items():
        if len(runs) == 1 or all(text in column for column in columns):
            guessed = [column.get(text, ()) for column in columns]
            rows = [
                {"truth": place["truth"], "guesses": [_guesses(column, i, place["truth"]) for column in guessed]}
                for i, place in enumerate(places)
            ]
            texts.append({"text": text, "places": rows})
    return Samples(names, texts)


def _thinned(samples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most MOST_SAMPLES of `samples`: the first and the last, and others at distances that grow geometrically."""
    last = len(samples) - 1
    places = {round(last ** (i / (MOST_SAMPLES - 2))) for i in range(MOST_SAMPLES - 1)} if last > 0 else set()
    return [samples[i] for i in sorted({0, *places} & set(range(last + 1)))] if samples else []


def _guesses(places: Sequence[dict[str, Any]], number: int, truth: str) -> list[dict[str, Any]]:
    if number >= len(places):
        return []
    return [
        {"piece": piece, "share": _number(p, "{:.0%}") if not p < 0.005 else "<1%", "is_right": piece == truth}
        for piece, p in places[number]["top"]
    ]


def _pretraining_figures(run: runs_.Run) -> list[Row]:
    evaluations = sorted(run.evidence.heldout.items())
    commoner = run.facts.commoner if run.facts else {}
    section = run.evidence.config.get("model")
    figures = [("size", "", card_sections.size(section) if section else "")]
    if teacher := card_sections.teacher(run.evidence.config):
        figures.append(("teacher", "", teacher))
    for metric in run.evidence.metrics:
        name = f"held-out {metric.column}"
        rows = [(name, f"{n} tokens", _number(line.get(metric.name), metric.form)) for n, line in evaluations]
        figures += rows or [(name, "", "")]
        if metric.baseline == metrics.UNIGRAM_ENTROPY and run.facts:
            figures.append((name, "unigram entropy", f"{run.facts.unigram_entropy:.3f}"))
        if metric.baseline == metrics.COMMONER_LABEL:
            figures += [(name, f"commoner label, {n}", f"{share:.1%}") for n, share in sorted(commoner.items())]
    return figures + _costs(run)


def _finetuning_figures(run: runs_.Run) -> list[Row]:
    """The figures of a fine-tuning. Scores are means over the seeds."""
    config = run.evidence.config
    start = card_sections.public(config.get("init_from", ""))
    figures = [("task", "", config["task"].get("name", "")), ("started from", "", start)]
    for split, by_metric in run.scores.get("summary", {}).items():
        for metric, summary in by_metric.items():
            name = f"{metric.replace('_', ' ')}, {split}"
            seeds = len(run.scores.get("seeds", ()))
            figures.append((name, f"mean of {seeds} seeds" if seeds > 1 else "", f"{summary['mean']:.4f}"))
            if seeds > 1:
                figures.append((name, "deviation", f"{summary['std']:.4f}"))
            commonest = run.scores.get("commonest_class", {}).get(split, {})
            if metric in commonest:
                figures.append((name, "commonest class", f"{commonest[metric]:.4f}"))
    if not run.scores:
        figures.append(("scores", "", ""))
    return figures + _costs(run)


def _costs(run: runs_.Run) -> list[Row]:
    records = run.evidence
    seconds = sum(records.hours.get("seconds", {}).values())
    rates = [("examples a second", f"{n} tokens", f"{rate:,.0f}") for n, rate in records.examples_per_s.items()]
    energy = "{:.2g} to {:.2g}".format(*records.energy.kwh) if records.energy else ""
    newest = "" if run.checkpoint is None else f"step {run.checkpoint:,}"
    return [
        *(rates or [("examples a second", "", "")]),
        ("steps skipped", "", str(records.skips) if records.skips else ""),
        ("hours, restarts included", "", hours.in_hours(seconds) if seconds else ""),
        ("energy, kWh, an estimate", "", energy),
        ("newest checkpoint", "", newest),
    ]


def _number(value: Any, form: str) -> str:
    if not isinstance(value, int | float):
        return ""
    return form.format(value) if math.isfinite(value) else "not finite"


def _joined(rows_of_runs: list[list[Row]]) -> Table:
    """One table from the rows of each run."""
    values = [{(name, detail): value or NOT_MEASURED for name, detail, value in rows} for rows in rows_of_runs]
    table: Table = {}
    for name, detail in dict.fromkeys(key for of_run in values for key in of_run):
        table.setdefault(name, []).append((detail, [of_run.get((name, detail), NOT_MEASURED) for of_run in values]))
    return table
