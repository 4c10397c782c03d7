"""Cells and frames of the tables of an experiment, as Markdown."""

from collections.abc import Sequence

import numpy as np

from bert_tpu.recipes import collected


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def label(length: str) -> str:
    """Returns the words for a length, or for collected.MEAN."""
    return "mean over the lengths" if length == collected.MEAN else f"{length} tokens"


def mean_and_deviation(values: np.ndarray) -> str:
    """Returns the mean of some seeds' losses with the standard deviation of one."""
    if not np.isfinite(values).all():
        return f"diverged for {int(np.sum(~np.isfinite(values)))} of {len(values)}"
    return f"{np.mean(values):.4f}" + (f" ({np.std(values, ddof=1):.4f})" if len(values) > 1 else "")
