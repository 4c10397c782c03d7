"""configs/bert.py without padding at 512 tokens: examples share rows.

python -m bert_tpu.pretrain --config configs/fast.py:medium --workdir W --config.data.dir=CORPUS

About half of a 512-token row is padding where documents are short, as Wikipedia's are. Here 128 rows hold the 256
examples of such a step; a run says how many they held, and what number of rows would fit another corpus.
"""

from configs import bert


def get_config(variant="medium"):
    """The config of one of bert.VARIANTS."""
    cfg = bert.get_config(variant)
    cfg.data.packed_rows = 128
    return cfg
