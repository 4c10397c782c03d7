"""configs/bert.py without padding at 512 tokens: examples share rows.

python -m bert_tpu.pretrain --config configs/fast.py:medium --workdir W --config.data.dir=CORPUS

Where documents are short, much of a 512-token row is padding. 128 rows hold the 256 examples of such a step if these
fill half a row each; a run says how many its rows hold, and what number of rows would fit the corpus.
"""

from configs import bert


def get_config(variant="medium"):
    """The config of one of bert.VARIANTS."""
    cfg = bert.get_config(variant)
    cfg.data.packed_rows = 128
    return cfg
