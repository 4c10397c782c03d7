"""What fine-tuning needs of a task: rows to train and be judged on, what an output means, and how it is judged."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bert_tpu.data import token_rows


class Task(NamedTuple):
    """A task that was read. Outputs are what its head says of a split's rows, float32 and in their order:

    "classify" [N, classes], "regress" [N, 1], "span" [all tokens, 2], "tag" [all tokens, classes].
    """

    name: str
    head: str
    labels: tuple[str, ...]  # of the classes; one name for "regress", two for "span"
    splits: dict[
        str, token_rows.Rows
    ]  # "train", those to be judged on, in their order of weight, and those to be predicted
    judged: tuple[str, ...]
    score: Callable[[str, np.ndarray], dict[str, float]]  # (judged split, outputs) -> scores, the main one first
    write: Callable[[str, np.ndarray, Path], None]  # (split, outputs, folder): its predictions are in a file there
    # (judged split, outputs of several models, [S, ...]) -> score -> [draws, S], all models on the same rows, which are
    # drawn with replacement: how much each score, or a difference, owes to the rows that happen to be there.
    draws: Callable[[str, np.ndarray], dict[str, np.ndarray]]
