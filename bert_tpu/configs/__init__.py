"""In a clone: the folder configs/ of the repository. An installed bert_tpu has its files here."""

import pathlib

__path__ = [str(pathlib.Path(__file__).parents[2] / "configs")]
