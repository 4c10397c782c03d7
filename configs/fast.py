"""Pretrains BERT by a recent recipe: a higher rate, no dropout, more masks at first and fewer long rows.

bert-tpu pretrain --config fast:medium --workdir W --config.data.dir=CORPUS

The model is that of configs/bert.py, so exports and fine-tuning do not change. What is known of the recipe, at which
size, and what is only expected, is in docs/recipe.md. It has a third of the original's steps: set num_steps to what
you can pay for, since warm-up and masks follow it.
"""

import ml_collections

from bert_tpu.configs import bert

NARROW = 128  # hidden size up to which a model gets fewer masks


def get_config(variant: str = "medium") -> ml_collections.ConfigDict:
    """Returns the config of one of bert.VARIANTS, or of bert.LIKE.

    The masks are those of the variant. Where LIKE or another model.hidden_size makes a model of a width up to NARROW,
    set data.mask_rate=0.2 and data.max_predictions=26,102 too.
    """
    cfg = bert.get_config(variant)
    cfg.num_steps = 333_000
    # The original has one rate, 1e-4, for all sizes. Where the width is d, this one is 1e-3 x sqrt(128 / d). At 128 it
    # was the best of four in trials with 16 rows a step (docs/recipe.md).
    cfg.optim.learning_rate, cfg.optim.rate_width = 1e-3, 128
    cfg.optim.name, cfg.optim.b2 = "adamw", 0.98
    cfg.optim.schedule, cfg.optim.warmup_steps, cfg.optim.warmup_share = "linear", 0, 0.05
    # So short a run shows a large corpus once or a few times, too rarely for dropout to help (arXiv:2505.24788).
    cfg.model.dropout = cfg.model.attention_dropout = 0.0
    is_narrow = cfg.model.hidden_size is not None and cfg.model.hidden_size <= NARROW
    cfg.data.mask_rate, cfg.data.final_mask_rate = 0.2 if is_narrow else 0.3, 0.15
    cfg.data.max_predictions = tuple(round(cfg.data.mask_rate * n) for n in cfg.data.seq_lens)
    # All steps have NSP. In the last tenth alone it was learned much less, and MLM was 0.00 to 0.04 nats better
    # (docs/recipe.md).
    cfg.data.long_every = 20  # the last twentieth of the steps has 512 tokens
    # Examples share rows of 512, so that there is almost no padding. With another batch_size set this too: a run prints
    # how many rows suit its corpus and batch_size.
    cfg.data.packed_rows = 128
    return cfg
