"""configs/bert.py without next sentence prediction: MLM alone, on the same batches.

python -m bert_tpu.pretrain --config configs/mlm.py:medium --workdir W --config.data.dir=CORPUS
"""

from configs import bert


def get_config(variant="medium"):
    """The config of one of bert.VARIANTS."""
    cfg = bert.get_config(variant)
    cfg.objective = "mlm"
    return cfg
