"""The HTML page of a run, or of several runs next to each other: one file that loads no other."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bert_tpu.core import command
from bert_tpu.monitoring import health, metrics
from bert_tpu.report import curves, svg, tables
from bert_tpu.report import run as runs_

TEMPLATE = Path(__file__).with_name("page.html")
MOST_RUNS = len(svg.SERIES)


def check_installed() -> None:
    """Raises UserError unless jinja2 and matplotlib are installed."""
    command.require("the report", "jinja2", "matplotlib", extra="report")


def render(runs: Sequence[runs_.Run]) -> str:
    """The HTML. Raises UserError if the runs are not all of one kind, or more than MOST_RUNS."""
    import jinja2
    import markupsafe

    if len({run.is_tuning for run in runs}) > 1:
        raise command.UserError("a pretraining and a fine-tuning have no curves in common: compare runs of one kind")
    if len(runs) > MOST_RUNS:
        raise command.UserError(f"{len(runs)} runs are too many to tell apart by colour: compare at most {MOST_RUNS}")
    of_kind = curves.finetuning_charts if runs[0].is_tuning else curves.pretraining_charts
    charts = [
        chart._asdict() | {"svg": markupsafe.Markup(svg.draw(chart, f"c{i}"))} for i, chart in enumerate(of_kind(runs))
    ]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        runs=[_heading(number, run, len(runs)) for number, run in enumerate(runs)],
        is_tuning=runs[0].is_tuning,
        lens=sorted({line["seq_len"] for run in runs for line in run.evidence.lines if "seq_len" in line}),
        charts=charts,
        figures=tables.figures(runs),
        hours=tables.phase_times(runs),
        samples=tables.samples(runs),
        config=tables.config(runs),
        hashes=tables.hashes(runs),
        most=curves.MOST,
        marked=curves.MARKED,
    )


def _heading(number: int, run: runs_.Run, num_runs: int) -> dict[str, Any]:
    """The values of one run for the page's header and warnings."""
    return {
        "name": run.name,
        "letter": curves.run_letter(number) if num_runs > 1 else "",
        "state": run.state,
        "sentence": _sentence(run),
        "warnings": runs_.warnings(run),
        "counted": run.evidence.skips is not None and bool(run.evidence.hours),
        "checked": run.facts is not None,
        "lacks_commoner": _lacks_commoner(run),
    }


def _sentence(run: runs_.Run) -> str:
    """The state of the run, and a remark on its loss."""
    total = f" of {run.num_steps:,}" if run.num_steps else ""
    match run.state:
        case "finished":
            text = f"Finished: step {run.step:,}{total}."
        case "diverged":
            text = f"Diverged: it gave up at step {run.gave_up['steps'][-1]['step'] + 1:,}{total}."
        case _ if run.num_steps and run.step >= run.num_steps:
            text = f"Not finished: step {run.step:,}{total} is done, but not saved. The same command goes on."
        case _:
            text = f"Not finished: step {run.step:,}{total} is the last one logged."
    remark = run.facts and health.remark(run.evidence.lines, run.facts, run.num_steps or run.step)
    return f"{text} Held-out {remark}." if remark else text


def _lacks_commoner(run: runs_.Run) -> bool:
    """True if a metric is to be compared with the commoner label, whose share is unknown."""
    is_needed = any(metric.baseline == metrics.COMMONER_LABEL for metric in run.evidence.metrics)
    return is_needed and not (run.facts and run.facts.commoner)
