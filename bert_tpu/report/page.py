"""The page of a run, or of several beside each other: one HTML file that needs nothing but itself."""

from pathlib import Path

from bert_tpu.core import command
from bert_tpu.monitoring import health
from bert_tpu.report import curves, svg, tables
from bert_tpu.report import run as runs_

TEMPLATE = Path(__file__).with_name("page.html")
LARGEST = len(svg.SERIES)


def check_installed():
    """Raises UserError unless what draws and fills the page is installed."""
    command.require("the report", "jinja2", "matplotlib", extra="report")


def render(runs: list[runs_.Run]) -> str:
    """The HTML. Raises UserError for a fine-tuning beside a pretraining, and for more than LARGEST runs."""
    import jinja2
    import markupsafe

    if len({run.is_tuning for run in runs}) > 1:
        raise command.UserError("a pretraining and a fine-tuning share no curves: compare runs of one kind")
    if len(runs) > LARGEST:
        raise command.UserError(f"{len(runs)} runs are more than colours can tell apart: compare at most {LARGEST}")
    of_kind = curves.finetuning_charts if runs[0].is_tuning else curves.pretraining_charts
    charts = [
        chart._asdict() | {"svg": markupsafe.Markup(svg.draw(chart, f"c{i}"))} for i, chart in enumerate(of_kind(runs))
    ]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        runs=[_told(number, run, len(runs)) for number, run in enumerate(runs)],
        is_tuning=runs[0].is_tuning,
        lens=sorted({line["seq_len"] for run in runs for line in run.found.lines if "seq_len" in line}),
        charts=charts,
        figures=tables.figures(runs),
        hours=tables.hours_spent(runs),
        samples=tables.samples(runs),
        config=tables.config(runs),
        hashes=tables.hashes(runs),
        most=curves.MOST,
        marked=curves.MARKED,
    )


def _told(number, run, several):
    return {
        "name": run.name,
        "letter": curves.run_letter(number) if several > 1 else "",
        "state": run.state,
        "sentence": _sentence(run),
        "warnings": runs_.warnings(run),
        "counted": run.found.skips is not None and bool(run.found.hours),
        "checked": run.facts is not None,
        "knows_commoner": bool(run.facts and run.facts.commoner),
    }


def _sentence(run):
    """Where it stands."""
    of = f" of {run.num_steps:,}" if run.num_steps else ""
    match run.state:
        case "finished":
            said = f"Finished: step {run.step:,}{of}."
        case "diverged":
            said = f"Diverged: it gave up at step {run.gave_up['steps'][-1]['step'] + 1:,}{of}."
        case _:
            said = f"Not finished: step {run.step:,}{of} is the last that it tells of."
    remark = run.facts and health.remark(run.found.lines, run.facts, run.num_steps or run.step)
    return f"{said} Held-out {remark}." if remark else said
