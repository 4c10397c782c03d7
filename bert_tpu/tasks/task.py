"""A Task: everything that fine-tuning needs to train and evaluate on some data set."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bert_tpu.data import token_rows


class Task(NamedTuple):
    """A task, read from files.

    `outputs` are the head's, float32 and in the order of a split's rows: for the head "classify" [N, classes], for
    "regress" [N, 1], for "span" [all tokens, 2], for "tag" [all tokens, classes].
    """

    name: str
    head: str  # "classify", "regress", "span" or "tag"
    labels: tuple[str, ...]  # names of the classes; one name for "regress", two for "span"
    splits: dict[str, token_rows.Rows]  # "train", then the labelled ones, the most important first, then the others
    eval_splits: tuple[str, ...]  # the labelled splits but "train"
    score: Callable[[str, np.ndarray], dict[str, float]]  # (eval split, outputs) -> metric -> score; the main one first
    write: Callable[[str, np.ndarray, Path], None]  # (split, outputs, folder): writes a file of predictions
    # (eval split, outputs of S models [S, ...]) -> metric -> scores [draws, S] on rows that are drawn with replacement,
    # the same for all models. Their spread is how much a score, or a difference, depends on the choice of rows.
    bootstrap: Callable[[str, np.ndarray], dict[str, np.ndarray]]
    notes: tuple[str, ...] = ()  # what was read, in sentences that are printed before the first step
