"""The charts of a report: one line for each sequence length of a run, or for each of several runs."""

from collections.abc import Iterable, Iterator, Sequence
import math
from typing import Any, NamedTuple

import numpy as np

from bert_tpu.monitoring import metrics
from bert_tpu.monitoring.metrics import Metric
from bert_tpu.report import run as runs_

MOST = 300  # points of a line; a longer line has the means of as many groups of neighbours
MARKED = 40  # markers of a row of evaluations; of more, some are left out, but not the last
STEPS = (
    (metrics.DISTILL_LOSS, "Distance from the teacher", "nats"),
    (metrics.RELATION_LOSS, "Distance from the teacher's relations", "nats"),
    ("learning_rate", "Learning rate", ""),
    ("grad_norm", "Norm of the gradient", "before clipping"),
    ("tokens_per_sec", "Throughput", "tokens a second"),
    ("input_wait", "Waiting for input", "% of the steps' time"),
    ("mfu", "Model FLOPs utilization", "% of the devices' peak"),
)
SHARES = ("input_wait", "mfu")  # of STEPS
LABELS = ("step", "kind", "split", "seed")  # keys of a line of scores that are not scores
FROM_ZERO = ("learning_rate", "tokens_per_sec", "input_wait", "mfu")


class Line(NamedTuple):
    """A line, or a row of markers."""

    label: str  # at its end; "" for none
    steps: list[float]
    values: list[float]
    color: int  # index into the page's colours
    form: int  # index into the page's dashes, or shapes of markers
    is_markers: bool


class Level(NamedTuple):
    """A horizontal line to compare the lines with."""

    value: float
    color: int | None  # that of a line; None for a neutral colour


class Chart(NamedTuple):
    """A chart over steps."""

    title: str
    unit: str
    lines: list[Line]
    levels: list[Level]
    is_share: bool  # True: values from 0 to 1, printed as percentages
    from_zero: bool  # True: the vertical axis begins at 0
    note: str = ""  # a sentence about the levels


def pretraining_charts(runs: Sequence[runs_.Run]) -> list[Chart]:
    """The charts of one or more pretrainings, without those that have no lines."""
    lens = sorted({line["seq_len"] for run in runs for line in run.evidence.lines if "seq_len" in line})
    of_runs = {metric.name: metric for run in runs for metric in run.evidence.metrics}
    tasks = dict.fromkeys(metric.task for metric in of_runs.values())
    total = f"nats, {' and '.join(tasks)} together" if len(tasks) > 1 else "nats"
    of_metrics = [(metric.name, metric.label, metric.unit) for metric in of_runs.values()]
    # Steps without pairs have no loss of NSP, and evaluations have one, so that their sums cannot be compared.
    sums = [] if any(run.evidence.first_nsp_step for run in runs) else [("loss", "Loss", total)]
    charts = []
    for name, title, unit in (*sums, *of_metrics, *STEPS):
        lines = [line for i, run in enumerate(runs) for line in _lines_of_run(run, i, name, lens, len(runs) > 1)]
        levels, note = _levels(runs, of_runs[name], lens) if name in of_runs else ([], "")
        is_share = of_runs[name].is_share if name in of_runs else name in SHARES
        charts.append(_chart(name, title, unit, lines, is_share, levels, note))
    return [chart for chart in charts if chart.lines]


def finetuning_charts(runs: Sequence[runs_.Run]) -> list[Chart]:
    """The charts of one or more fine-tunings: the loss, each score of each split, and the figures of the steps.

    A line is a run. The scores of a single run have a line for each seed.
    """
    of_steps = []
    for name, title, unit in (("loss", "Loss", "of training, a mean over seeds"), *STEPS):
        lines = [_line(run_letter(i), run.evidence.lines, "train", name, i, 0) for i, run in enumerate(runs)]
        of_steps.append(_chart(name, title, unit, [line for line in lines if line.steps], name in SHARES))
    evals = [line for run in runs for line in run.evidence.lines if line["kind"] == "eval"]
    names = dict.fromkeys((line.get("split"), name) for line in evals for name in line.keys() - set(LABELS))
    scores = []
    for split, name in sorted(names):
        lines = [line for i, run in enumerate(runs) for line in _lines_of_seeds(run, i, split, name, len(runs) > 1)]
        scores.append(_chart("", f"{name.replace('_', ' ')}, {split}", "", lines, False))
    return [chart for chart in (of_steps[0], *scores, *of_steps[1:]) if chart.lines]


def run_letter(number: int) -> str:
    """The letter of a run on a page of several: A, B, ..."""
    return chr(ord("A") + number)


def _lines_of_seeds(run: runs_.Run, number: int, split: str | None, name: str, several: bool) -> Iterator[Line]:
    """Yields a line and markers of the score `name` for each seed."""
    evals = [line for line in run.evidence.lines if line["kind"] == "eval" and line.get("split") == split]
    for i, seed in enumerate(dict.fromkeys(line.get("seed") for line in evals)):
        of_seed = [line for line in evals if line.get("seed") == seed]
        label, color = (run_letter(number), number) if several else (f"seed {seed}", i)
        line = _line(label, of_seed, "eval", name, color, color)
        if line.steps:
            yield from (line._replace(is_markers=False), line)


def _chart(
    name: str, title: str, unit: str, lines: list[Line], is_share: bool, levels: Sequence[Level] = (), note: str = ""
) -> Chart:
    if len({line.label for line in lines}) == 1:
        lines = [line._replace(label="") for line in lines]
    return Chart(title, unit, lines, list(levels), is_share, name in FROM_ZERO, note)


def _lines_of_run(run: runs_.Run, number: int, name: str, lens: list[int], several: bool) -> Iterator[Line]:
    """Yields the training line and the markers of the evaluations for each length."""
    of_all = name == "learning_rate"  # the same for all lengths
    for i, seq_len in enumerate(lens):
        of_length = [line for line in run.evidence.lines if line.get("seq_len") == seq_len or of_all]
        label = f"{run_letter(number)} {seq_len}" if several else f"{seq_len}"
        if of_all:
            label = run_letter(number) if several else ""
        color = number if several else i
        for kind in ("train", "eval"):
            line = _line(label, of_length, kind, name, color, 0 if of_all else i)
            if line.steps:
                yield line
        if of_all:
            return


def _line(label: str, lines: Iterable[dict[str, Any]], kind: str, name: str, color: int, form: int) -> Line:
    points = {line["step"]: line[name] for line in lines if line["kind"] == kind and _is_number(line.get(name))}
    thinned = _some if kind == "eval" else _means
    return Line(label, thinned(list(points)), thinned(list(points.values())), color, form, kind == "eval")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _means(values: list[float]) -> list[float]:
    if len(values) <= MOST:
        return values
    return [float(np.mean(group)) for group in np.array_split(np.asarray(values, float), MOST)]


def _some(values: list[float]) -> list[float]:
    if len(values) <= MARKED:
        return values
    return [values[i] for i in np.linspace(0, len(values) - 1, MARKED).round().astype(int)]


def _levels(runs: Sequence[runs_.Run], metric: Metric, lens: list[int]) -> tuple[list[Level], str]:
    """The levels of a metric's chart, its baseline, and the note on them."""
    known = [run.facts for run in runs if run.facts]
    if metric.baseline == metrics.UNIGRAM_ENTROPY and known:
        entropies = dict.fromkeys(facts.unigram_entropy for facts in known)
        nats = " and ".join(f"{entropy:.2f}" for entropy in entropies)
        return [Level(entropy, None) for entropy in entropies], f"Dashed: the unigram entropy of the text, {nats} nats."
    if metric.baseline == metrics.COMMONER_LABEL and len(runs) == 1 and known and known[0].commoner:
        shares = known[0].commoner
        levels = [Level(shares[n], i) for i, n in enumerate(lens) if n in shares]
        accuracies = ", ".join(f"{shares[n]:.1%} at {n} tokens" for n in lens if n in shares)
        return levels, f"Dashed: accuracy of always the commoner label, {accuracies}."
    return [], ""
