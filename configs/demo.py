"""A run for a laptop's CPU: minutes, not days.

python -m bert_tpu.pretrain --config configs/demo.py --workdir W --config.data.dir=CORPUS

BERT's recipe at 2 layers of 128; what differs from configs/bert.py is here. `make demo` prints what to expect.
"""

from configs import bert


def get_config():
    """The micro variant, shrunk to what two cores train in about five minutes."""
    cfg = bert.get_config("micro")
    cfg.model.vocab_size = 8192
    cfg.model.dtype = "float32"  # as fast at this size, on any CPU
    # Short rows: at 32 tokens a second holds four times as many updates as at 128, and so small a model needs
    # updates more than context to leave the plateau at the unigram entropy.
    cfg.data.seq_lens = (32, 128)
    cfg.data.max_predictions = (5, 20)
    # Both lengths to the end: four hundred long steps in a row would cost what is known of short rows.
    cfg.data.schedule = "mixed"
    cfg.batch_size = 32
    cfg.num_steps = 4000
    # 4,000 steps see no row twice, and a rate of 3e-3 needs a second moment that follows within the warm-up.
    cfg.model.dropout = 0.0
    cfg.model.attention_dropout = 0.0
    cfg.optim.learning_rate = 3e-3
    cfg.optim.b2 = 0.98
    cfg.optim.warmup_steps = 400
    cfg.checkpoint.every_steps = 500
    cfg.eval.every_steps = 500
    cfg.eval.num_batches = 32
    cfg.log.every_steps = 100
    return cfg
