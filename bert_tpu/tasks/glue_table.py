"""GLUE's scores as a table, its columns in the order of table 1 of Devlin et al. (2019)."""

from typing import Any

from bert_tpu.tasks import metrics

COLUMNS = {  # heading -> task, and its splits
    "MNLI-(m/mm)": ("mnli", ("validation_matched", "validation_mismatched")),
    "QQP": ("qqp", ("validation",)),
    "QNLI": ("qnli", ("validation",)),
    "SST-2": ("sst2", ("validation",)),
    "CoLA": ("cola", ("validation",)),
    "STS-B": ("stsb", ("validation",)),
    "MRPC": ("mrpc", ("validation",)),
    "RTE": ("rte", ("validation",)),
    "WNLI": ("wnli", ("validation",)),
}
NOT_AVERAGED = "wnli"  # "the problematic WNLI set", as the paper says

Summaries = dict[str, dict[str, dict[str, dict[str, Any]]]]  # task -> what evaluation.summary returns


def markdown(summaries: Summaries) -> str:
    """Returns a table with the rows mean, standard deviation, best and interval, times 100.

    It has a column for each task in `summaries`. If all eight tasks but WNLI are there, it also has their average; a
    task with several scores counts with their mean.
    """
    columns = [heading for heading, (task, _) in COLUMNS.items() if task in summaries]
    cells: dict[str, list[str]] = {"mean": [], "standard deviation": [], "best": [], "95% of rows drawn": []}
    for heading in columns:
        scores = [score for score in _scores(summaries, heading) if score is not None]
        cells["mean"].append("/".join(_per_cent(score["mean"]) for score in scores))
        cells["standard deviation"].append("/".join(_per_cent(score["std"]) for score in scores))
        cells["best"].append("/".join(_per_cent(score["best"]) for score in scores))
        cells["95% of rows drawn"].append("/".join("..".join(map(_per_cent, score["interval"])) for score in scores))
    if (average := _average(summaries)) is not None:
        columns.append("Average")
        cells = {label: [*row, _per_cent(average) if label == "mean" else ""] for label, row in cells.items()}
    lines = [["", *columns], ["---"] * (1 + len(columns)), *([label, *row] for label, row in cells.items())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _scores(summaries: Summaries, heading: str) -> list[dict[str, Any] | None]:
    """Returns the summary of each score in a column; None for a score that `summaries` lacks."""
    task, splits = COLUMNS[heading]
    return [summaries.get(task, {}).get(split, {}).get(name) for split in splits for name in metrics.GLUE[task]]


def _average(summaries: Summaries) -> float | None:
    means = []
    for heading, (task, _) in COLUMNS.items():
        if task == NOT_AVERAGED:
            continue
        scores = [score["mean"] for score in _scores(summaries, heading) if score is not None]
        if len(scores) < len(_scores(summaries, heading)):
            return None
        means.append(sum(scores) / len(scores))
    return sum(means) / len(means)


def _per_cent(score: float) -> str:
    return f"{100 * score:.1f}"
