"""The page of a run, or of several beside each other: one HTML file that needs nothing but itself."""

import json
import math
from pathlib import Path

from bert_tpu import command, health, hours, sections, workdir
from bert_tpu.report import curves, svg
from bert_tpu.report import run as runs_

TEMPLATE = Path(__file__).with_name("page.html")
NOT_MEASURED = "not measured"
SHOWN = 5  # evaluations whose samples are shown
LARGEST = len(svg.SERIES)


def require():
    """Raises UserError unless what draws and fills the page is installed."""
    command.require("the report", "jinja2", "matplotlib")


def write(runs: list[runs_.Run]) -> str:
    """The HTML. Raises UserError for a fine-tuning beside a pretraining, and for more than LARGEST runs."""
    import jinja2
    import markupsafe

    if len({run.is_tuning for run in runs}) > 1:
        raise command.UserError("a pretraining and a fine-tuning share no curves: compare runs of one kind")
    if len(runs) > LARGEST:
        raise command.UserError(f"{len(runs)} runs are more than colours can tell apart: compare at most {LARGEST}")
    of_kind = curves.of_tuning if runs[0].is_tuning else curves.of_pretraining
    charts = [
        {
            "title": chart.title,
            "unit": chart.unit,
            "note": chart.note,
            "svg": markupsafe.Markup(svg.draw(chart, f"c{i}")),
        }
        for i, chart in enumerate(of_kind(runs))
    ]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        runs=[_told(number, run, len(runs)) for number, run in enumerate(runs)],
        is_tuning=runs[0].is_tuning,
        lens=sorted({line["seq_len"] for run in runs for line in run.found.lines if "seq_len" in line}),
        charts=charts,
        figures=_beside([_tuning_figures(run) if run.is_tuning else _figures(run) for run in runs]),
        unit="minutes" if _in_minutes(runs) else "hours",
        hours=_hours(runs),
        samples=_samples(runs),
        config=_config(runs),
        hashes=_beside([[(what, "", value) for what, value in run.hashes.items()] for run in runs]),
        most=curves.MOST,
        marked=curves.MARKED,
    )


def _told(number, run, several):
    return {
        "name": run.name,
        "title": Path(run.name).name or run.name,
        "letter": curves.letter(number) if several > 1 else "",
        "state": run.state,
        "sentence": _sentence(run),
        "warnings": runs_.warnings(run),
        "checked": run.facts is not None,
        "knows_commoner": bool(run.facts and run.facts.commoner),
    }


def _sentence(run):
    """Where it stands."""
    of = f" of {run.num_steps:,}" if run.num_steps else ""
    said = {
        "finished": f"Finished: step {run.step:,}{of}.",
        "diverged": f"Diverged: it gave up at step {run.gave_up['steps'][-1]['step'] + 1:,}{of}."
        if run.gave_up
        else "",
        "unfinished": f"Not finished: step {run.step:,}{of} is the last that it tells of.",
    }[run.state]
    remark = run.facts and health.remark(run.found.lines, run.facts, run.num_steps or run.step)
    return f"{said} Held-out {remark}." if remark else said


def _figures(run):
    """(what, of which rows, value) of a pretraining."""
    held = sorted(run.found.heldout.items())
    commoner = run.facts.commoner if run.facts else {}
    figures = [
        ("size", "", sections.size(run.found.config["model"])) if "model" in run.found.config else ("size", "", "")
    ]
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


def _tuning_figures(run):
    """(what, of which, value) of a fine-tuning; scores are means over seeds."""
    config = run.found.config
    figures = [("task", "", config["task"].get("name", "")), ("started from", "", config.get("init_from", ""))]
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
    return [
        *(rates or [("examples a second", "", "")]),
        ("hours, restarts included", "", f"{seconds / 3600:,.2f}" if seconds else ""),
        ("energy, kWh, an estimate", "", energy),
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


def _hours(runs):
    """[(phase, [(hours or minutes, share) of each run])]; [] where no run has any."""
    each = [run.found.hours.get("seconds", {}) for run in runs]
    wholes = [sum(seconds.values()) or 1.0 for seconds in each]
    table = []
    for phase in (*hours.PHASES, "lost"):
        spent = [seconds.get(phase, 0.0) for seconds in each]
        if any(spent):
            unit_s = 60 if _in_minutes(runs) else 3600
            table.append((phase, [(s / unit_s, s / whole) for s, whole in zip(spent, wholes, strict=True)]))
    return table


def _in_minutes(runs):
    return max(sum(run.found.hours.get("seconds", {}).values()) for run in runs) < 2 * 3600


def _samples(runs):
    """The texts of the newest evaluation; of one run at a few of its steps, of several at the end of each."""
    lines = _few(runs[0].samples) if len(runs) == 1 else [run.samples[-1] for run in runs if run.samples]
    names = [f"step {line['step']:,}" for line in lines]
    if len(runs) > 1:
        letters = [curves.letter(number) for number, run in enumerate(runs) if run.samples]
        names = [f"{letter}, {name}" for letter, name in zip(letters, names, strict=True)]
    if not lines or (len(runs) > 1 and len(lines) < 2):
        return {"names": [], "texts": []}
    by_text = [{row["text"]: row["places"] for row in line["samples"]} for line in lines]
    texts = []
    for row in lines[-1]["samples"]:
        places = [
            {
                "truth": place["truth"],
                "guesses": [_guesses(of.get(row["text"], ()), i, place["truth"]) for of in by_text],
            }
            for i, place in enumerate(row["places"])
        ]
        if all(any(guesses) for guesses in zip(*(place["guesses"] for place in places), strict=True)) or len(runs) == 1:
            texts.append({"text": row["text"], "places": places})
    return {"names": names, "texts": texts}


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


def _config(runs):
    """[(key, [each run's value], whether they differ)]."""
    flat = [workdir.flat(run.found.config) for run in runs]
    keys = sorted({key for one in flat for key in one})
    rows = [(key, [json.dumps(one[key]) if key in one else "" for one in flat]) for key in keys]
    return [(key, values, len(set(values)) > 1) for key, values in rows]
