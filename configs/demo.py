"""A run for a laptop's CPU: minutes, not days.

python -m bert_tpu.pretrain --config configs/demo.py --workdir W --config.data.dir=CORPUS

BERT's own recipe at 2 layers of 128, on a vocabulary of 8,192 pieces; what differs from configs/bert.py is here.
"""

from configs import bert


def get_config():
    """The micro variant, shrunk to what two cores train in five minutes."""
    cfg = bert.get_config("micro")
    cfg.model.vocab_size = 8192
    cfg.model.dtype = "float32"  # CPUs have no bfloat16 matrix unit
    cfg.batch_size = 32
    cfg.num_steps = 1500
    cfg.optim.learning_rate = 2e-3
    cfg.optim.warmup_steps = 100
    cfg.checkpoint.every_steps = 250
    cfg.eval.every_steps = 250
    cfg.eval.num_batches = 4
    cfg.log.every_steps = 50
    return cfg
