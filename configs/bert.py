"""Pretrains BERT by its authors' recipe, in nine sizes, or continues a model in its own size.

bert-tpu pretrain --config bert:medium --workdir W --config.data.dir=CORPUS
bert-tpu pretrain --config bert:like --workdir W --config.data.dir=CORPUS --config.init_from=MODEL

The default is the recipe of google-research/bert: 1,000,000 steps of 256 rows, 900,000 at 128 tokens and then 100,000
at 512. For `medium` this takes 7.6 EFLOP of matrix products. Its hours on 16 chips have not been measured yet.
"""

import ml_collections

# (layers, hidden size). There are hidden size / 64 heads, and the feed-forward size is 4 x the hidden size. The names
# are this project's own (Google's Mini is 4/256), so exported models also have the sizes in their names.
VARIANTS = {
    "micro": (2, 128),
    "mini": (4, 128),
    "tinyplus": (6, 128),
    "small": (4, 256),
    "mid": (6, 256),
    "mobile": (6, 512),
    "medium": (8, 512),
    "large": (10, 768),
    "pro": (12, 768),
}
LIKE = "like"  # the variant with the sizes of the model in `init_from`; here each of them is None
SIZES = (
    "vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size", "max_positions", "type_vocab_size",
    "activation", "layer_norm_eps",
)  # fmt: skip


def get_config(variant: str = "medium") -> ml_collections.ConfigDict:
    """Returns the config of one of VARIANTS, or of LIKE."""
    if variant not in (*VARIANTS, LIKE):
        raise ValueError(f"there is no variant {variant!r}: choose from {', '.join(VARIANTS)}, {LIKE}")
    if variant == LIKE:
        cfg = get_config()
        cfg.model.update(dict.fromkeys(SIZES))
        return cfg
    num_layers, hidden_size = VARIANTS[variant]
    return ml_collections.ConfigDict(
        dict(
            seed=0,
            batch_size=256,
            accumulate=1,  # compute a batch in this number of parts, to save memory
            accumulate_long=0,  # parts of a batch of the longer rows; 0: accumulate
            # The first `steps` steps, or `share` of all, have in equal parts rows[0], rows[1], .. rows; (): no ramp.
            ramp=dict(rows=(), steps=0, share=0.0),
            exchange="all-to-all",  # of gradients; "reduce-scatter" and "all-reduce" do without new compiler options
            num_steps=1_000_000,
            init_from="",  # model to continue: a Hugging Face directory, workdir, checkpoint or imported model
            compile_cache="~/.cache/bert_tpu",
            model=dict(
                vocab_size=30_522,
                hidden_size=hidden_size,
                num_layers=num_layers,
                num_heads=hidden_size // 64,
                intermediate_size=4 * hidden_size,
                max_positions=512,
                type_vocab_size=2,
                activation="gelu",
                dropout=0.1,
                attention_dropout=0.1,
                layer_norm_eps=1e-12,
                dtype="bfloat16",
                remat=False,
            ),
            data=dict(
                dir="",
                seq_lens=(128, 512),
                max_predictions=(20, 76),
                schedule="phased",
                long_every=10,
                short_prob=0.1,
                mask_rate=0.15,
                final_mask_rate=0.0,  # mask_rate changes linearly to this; 0: it stays. Evaluation: always 0.15
                nsp_share=1.0,  # share of the steps, at the end, with pairs; earlier rows are single segments
                whole_word=False,
                packed_rows=0,  # rows of a 512-token step whose examples share rows; 0: no sharing; see --config fast
                packed_examples=16,  # most examples in a row
            ),
            optim=dict(
                name="bert_adamw",
                learning_rate=1e-4,
                rate_width=0,  # hidden size that learning_rate is for; 0: it is for any; see optim.find_peak
                schedule="bert_linear",
                warmup_steps=10_000,
                warmup_share=0.0,  # of num_steps; set warmup_steps to 0 to use it
                b1=0.9,
                b2=0.999,
                eps=1e-6,
                weight_decay=0.01,
                clip_norm=1.0,
            ),
            distill=dict(
                teacher="",  # BERT with the same tokenizer to learn from, in any form that init_from takes; "": none
                weight=0.5,  # of the teacher's distribution; the true pieces get 1 - weight
                temperature=1.0,  # from 1 to 10
                relations=0.0,  # weight of the last layer's relations (MiniLMv2); 0: none
                relation_heads=0,  # must divide both widths; 0: as many as the student's heads
            ),
            checkpoint=dict(every_steps=10_000, keep_last=3, keep_every=100_000),
            eval=dict(every_steps=10_000, num_batches=16),
            log=dict(every_steps=100, to=("tensorboard",)),
            profile=dict(first_step=0, num_steps=0),
            nonfinite=dict(stop_after=20),  # skipped steps in a row before the run stops; 0: never stop
            watchdog=dict(silent_s=30, stacks_s=300, exit_s=600),
            plan=dict(
                # US dollars for a chip and hour, on demand, in the cheapest US region, in 2025. Set your own prices.
                # Source: https://cloud.google.com/tpu/pricing. 0: not known, a plan has no cost.
                price=dict(v3=2.00, v4=3.22, v5e=1.20, v5p=4.20, v6e=2.70, v7x=0.00),
                pue=1.09,  # power usage effectiveness of Google's fleet in 2024: https://datacenters.google/efficiency
                # USA in 2022: 827.5 lb CO2e/MWh (823.1 of CO2 alone). Source: eGRID2022, https://www.epa.gov/egrid
                kgco2e_per_kwh=0.375,  # your grid may differ by a lot
            ),
        )
    )
