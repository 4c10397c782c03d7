"""A mark for tests that need PyTorch in an environment that may lack it, as that of make test-quick does."""

import importlib.util

import pytest

NEEDS_PYTORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="PyTorch is not installed: make test-quick leaves it out"
)
