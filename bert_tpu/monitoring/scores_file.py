"""W/scores.json: the scores of a fine-tuning, of each seed and over all."""

import os
from typing import Any

from etils import epath

from bert_tpu.core import json_files

FILE = "scores.json"
BY_METRIC = {str: {str: float}}  # split -> metric -> score
SUMMARY = {str: {str: {"mean": float, "std": float, "best": float}}}
SHAPE = {"step": int, "seeds": {str: BY_METRIC}, "summary": SUMMARY}


def read(directory: str | os.PathLike) -> dict[str, Any]:
    """The scores in `directory`; {} if there are none. Raises UserError if the file is damaged."""
    return json_files.read_if_any(epath.Path(directory) / FILE, SHAPE)
