"""Pretrains by configs/bert.py, but examples share rows at 512 tokens, so that there is almost no padding.

bert-tpu pretrain --config fast:medium --workdir W --config.data.dir=CORPUS

If documents are short, much of a 512-token row is padding. 128 rows have space for the 256 examples of such a step if
each example fills half a row. A run prints the number of examples in its rows, and the number of rows that would suit
the corpus.
"""

import ml_collections

from bert_tpu.configs import bert


def get_config(variant: str = "medium") -> ml_collections.ConfigDict:
    """Returns the config of one of bert.VARIANTS."""
    cfg = bert.get_config(variant)
    cfg.data.packed_rows = 128
    return cfg
