"""GLUE's scores as one table, its columns in the order of table 1 of Devlin et al. (2019)."""

COLUMNS = {  # heading -> task, and the (split, score) that a cell names
    "MNLI-(m/mm)": ("mnli", (("validation_matched", "accuracy"), ("validation_mismatched", "accuracy"))),
    "QQP": ("qqp", (("validation", "f1"), ("validation", "accuracy"))),
    "QNLI": ("qnli", (("validation", "accuracy"),)),
    "SST-2": ("sst2", (("validation", "accuracy"),)),
    "CoLA": ("cola", (("validation", "matthews"),)),
    "STS-B": ("stsb", (("validation", "pearson"), ("validation", "spearman"))),
    "MRPC": ("mrpc", (("validation", "f1"), ("validation", "accuracy"))),
    "RTE": ("rte", (("validation", "accuracy"),)),
    "WNLI": ("wnli", (("validation", "accuracy"),)),
}
NOT_AVERAGED = "wnli"  # "the problematic WNLI set", as the paper has it


def markdown(summaries: dict[str, dict]) -> str:
    """Task -> what judge.summary says of it, as a table: rows mean, standard deviation, best and interval, times 100.

    Without the columns of tasks that are not there. `average` is the mean over the eight tasks but WNLI of the mean of
    each one's scores, where all eight are there.
    """
    columns = {heading: cell for heading, cell in COLUMNS.items() if cell[0] in summaries}
    rows = {"mean": [], "standard deviation": [], "best": [], "95% of rows drawn": []}
    for task, wanted in columns.values():
        each = [summaries[task][split][name] for split, name in wanted if split in summaries[task]]
        rows["mean"].append("/".join(_per_cent(one["mean"]) for one in each))
        rows["standard deviation"].append("/".join(_per_cent(one["std"]) for one in each))
        rows["best"].append("/".join(_per_cent(one["best"]) for one in each))
        rows["95% of rows drawn"].append("/".join("..".join(map(_per_cent, one["interval"])) for one in each))
    if (average := _average(summaries)) is not None:
        columns["Average"] = None
        rows = {label: [*cells, _per_cent(average) if label == "mean" else ""] for label, cells in rows.items()}
    lines = [["", *columns], ["---"] * (1 + len(columns)), *([label, *cells] for label, cells in rows.items())]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _average(summaries):
    means = []
    for task, wanted in COLUMNS.values():
        if task == NOT_AVERAGED:
            continue
        found = [summaries.get(task, {}).get(split, {}).get(name) for split, name in wanted]
        if None in found:
            return None
        means.append(sum(one["mean"] for one in found) / len(found))
    return sum(means) / len(means)


def _per_cent(score):
    return f"{100 * score:.1f}"
