"""Which curves a report has: of one run by sequence length, of several by run."""

import math
from typing import NamedTuple

import numpy as np

MOST = 300  # points of a line; of more, means of as many neighbours each
MARKED = 40  # evaluations of a row of markers; of more, some with the last
PRETRAINING = (
    ("loss", "Loss", "nats, MLM and NSP together"),
    ("mlm_loss", "MLM loss", "nats"),
    ("mlm_accuracy", "MLM accuracy", "% of the masked pieces"),
    ("nsp_accuracy", "NSP accuracy", "% of the pairs"),
)
STEPS = (
    ("learning_rate", "Learning rate", ""),
    ("grad_norm", "Norm of the gradient", "before clipping"),
    ("tokens_per_sec", "Throughput", "tokens a second"),
    ("input_wait", "Waiting for input", "% of the steps' time"),
    ("mfu", "Model FLOPs utilization", "% of the devices' peak"),
)
SHARES = ("mlm_accuracy", "nsp_accuracy", "input_wait", "mfu")
OF_A_SCORE = ("step", "kind", "split", "seed")  # what is no score in its line
FROM_ZERO = ("learning_rate", "tokens_per_sec", "input_wait", "mfu")


class Line(NamedTuple):
    """One line or row of markers. color and form are numbers: the first, second, ... of those that the page has."""

    label: str  # at its end; "" for none
    steps: list[float]
    values: list[float]
    color: int
    form: int  # of a line its dashes, of markers their shape
    is_markers: bool


class Level(NamedTuple):
    """A level to hold the lines against, `color` None for none of theirs."""

    value: float
    color: int | None


class Chart(NamedTuple):
    """A chart over steps. note: a sentence on what it shows beside the lines."""

    title: str
    unit: str
    lines: list[Line]
    levels: list[Level]
    is_share: bool
    from_zero: bool
    note: str = ""


def pretraining_charts(runs) -> list[Chart]:
    """The charts of one run or more, less those that nothing was measured for."""
    lens = sorted({line["seq_len"] for run in runs for line in run.found.lines if "seq_len" in line})
    charts = []
    for name, title, unit in (*PRETRAINING, *STEPS):
        drawn = [line for number, run in enumerate(runs) for line in _of_run(run, number, name, lens, len(runs) > 1)]
        charts.append(_chart(name, title, unit, drawn, *_levels(runs, name, lens)))
    return [chart for chart in charts if chart.lines]


def finetuning_charts(runs) -> list[Chart]:
    """The loss, each score of each judged split, and the steps; lines are runs, and of one run its scores' seeds."""
    of_steps = []
    for name, title, unit in (("loss", "Loss", "of training, a mean over seeds"), *STEPS):
        drawn = [_line(run_letter(i), run.found.lines, "train", name, i, 0) for i, run in enumerate(runs)]
        of_steps.append(_chart(name, title, unit, [line for line in drawn if line.steps], [], ""))
    evals = [line for run in runs for line in run.found.lines if line["kind"] == "eval"]
    told = dict.fromkeys((line.get("split"), name) for line in evals for name in line.keys() - set(OF_A_SCORE))
    scores = []
    for split, name in sorted(told):
        drawn = [line for i, run in enumerate(runs) for line in _of_seeds(run, i, split, name, len(runs) > 1)]
        scores.append(_chart("", f"{name.replace('_', ' ')}, {split}", "", drawn, [], ""))
    return [chart for chart in (of_steps[0], *scores, *of_steps[1:]) if chart.lines]


def run_letter(number) -> str:
    """What a run is called on a page of several: A, B, ..."""
    return chr(ord("A") + number)


def _of_seeds(run, number, split, name, several):
    """The line and the markers of each seed's score."""
    judged = [line for line in run.found.lines if line["kind"] == "eval" and line.get("split") == split]
    for place, seed in enumerate(dict.fromkeys(line.get("seed") for line in judged)):
        mine = [line for line in judged if line.get("seed") == seed]
        label, color = (run_letter(number), number) if several else (f"seed {seed}", place)
        line = _line(label, mine, "eval", name, color, color)
        if line.steps:
            yield from (line._replace(is_markers=False), line)


def _chart(name, title, unit, drawn, levels, note):
    ends = {line.label for line in drawn}
    if len(ends) == 1:
        drawn = [line._replace(label="") for line in drawn]
    return Chart(title, unit, drawn, levels, name in SHARES, name in FROM_ZERO, note)


def _of_run(run, number, name, lens, several):
    """The training lines and the held-out markers of each length."""
    of_all = name == "learning_rate"  # which has no length
    for place, seq_len in enumerate(lens):
        mine = [line for line in run.found.lines if line.get("seq_len") == seq_len or of_all]
        label = f"{run_letter(number)} {seq_len}" if several else f"{seq_len}"
        if of_all:
            label = run_letter(number) if several else ""
        color = number if several else place
        for kind in ("train", "eval"):
            line = _line(label, mine, kind, name, color, 0 if of_all else place)
            if line.steps:
                yield line
        if of_all:
            return


def _line(label, metrics, kind, name, color, form):
    points = {line["step"]: line[name] for line in metrics if line["kind"] == kind and _is_number(line.get(name))}
    thinned = _some if kind == "eval" else _means
    return Line(label, thinned(list(points)), thinned(list(points.values())), color, form, kind == "eval")


def _is_number(value):
    return isinstance(value, int | float) and math.isfinite(value)


def _means(values):
    if len(values) <= MOST:
        return values
    return [float(np.mean(part)) for part in np.array_split(np.asarray(values, float), MOST)]


def _some(values):
    if len(values) <= MARKED:
        return values
    return [values[i] for i in np.linspace(0, len(values) - 1, MARKED).round().astype(int)]


def _levels(runs, name, lens):
    """(levels, the note on them)."""
    known = [run.facts for run in runs if run.facts]
    if name == "mlm_loss" and known:
        entropies = dict.fromkeys(facts.unigram_entropy for facts in known)
        told = " and ".join(f"{entropy:.2f}" for entropy in entropies)
        return [Level(entropy, None) for entropy in entropies], f"Dashed: the unigram entropy of the text, {told} nats."
    if name == "nsp_accuracy" and len(runs) == 1 and known and known[0].commoner:
        shares = known[0].commoner
        levels = [Level(shares[n], place) for place, n in enumerate(lens) if n in shares]
        told = ", ".join(f"{shares[n]:.1%} at {n} tokens" for n in lens if n in shares)
        return levels, f"Dashed: always the commoner label, {told}."
    return [], ""
