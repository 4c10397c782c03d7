"""Pretrains by configs/bert.py with MLM alone, without next sentence prediction, on the same batches.

bert-tpu pretrain --config mlm:medium --workdir W --config.data.dir=CORPUS
"""

import ml_collections

from bert_tpu.configs import bert


def get_config(variant: str = "medium") -> ml_collections.ConfigDict:
    """Returns the config of one of bert.VARIANTS."""
    cfg = bert.get_config(variant)
    cfg.objective = "mlm"
    return cfg
