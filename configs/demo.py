"""Pretrains a small model on a laptop's CPU, in minutes.

bert-tpu pretrain --config demo --workdir W --config.data.dir=CORPUS

The recipe of configs/bert.py with 2 layers of 128, except for the values below. `make demo` prints what to expect.
"""

import ml_collections

from bert_tpu.configs import bert


def get_config() -> ml_collections.ConfigDict:
    """Returns the micro variant, small enough to train on two cores in five minutes."""
    cfg = bert.get_config("micro")
    cfg.model.vocab_size = 8192
    cfg.model.dtype = "float32"  # as fast as bfloat16 at this size, on any CPU
    # Rows of 32 tokens give four times as many updates a second as rows of 128. Such a small model needs updates more
    # than context to leave the plateau at the unigram entropy.
    cfg.data.seq_lens = (32, 128)
    cfg.data.max_predictions = (5, 20)
    # Both lengths until the end: after four hundred long steps in a row the model would be worse on short rows.
    cfg.data.schedule = "mixed"
    cfg.batch_size = 32
    cfg.num_steps = 2600
    # So few steps read no row twice, so dropout is not needed. Muon leaves the plateau earlier than Adam, which needs
    # 4,000 steps here. At a rate of 3e-3 the second moment of the other parameters must adapt within the warm-up.
    cfg.model.dropout = 0.0
    cfg.model.attention_dropout = 0.0
    cfg.optim.name = "muon"
    cfg.optim.learning_rate = 3e-3
    cfg.optim.b2 = 0.98
    cfg.optim.warmup_steps = 260
    cfg.checkpoint.every_steps = 500
    cfg.eval.every_steps = 1000
    cfg.eval.num_batches = 32
    cfg.log.every_steps = 100
    return cfg
