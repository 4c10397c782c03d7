"""The base of every fine-tuning config; configs/glue.py, squad.py, ner.py and pairs.py add their task's values.

The recipe is that of the BERT paper (Devlin et al. 2019, appendix A.3): 3 epochs of 32 rows at 2e-5 to 5e-5, warm-up in
a tenth of the steps, then linear decay.
"""

import ml_collections


def get_config(reader: str, **data: object) -> ml_collections.ConfigDict:
    """Returns the config of a task that bert_tpu/tasks/`reader`.py reads with the arguments `data`."""
    return ml_collections.ConfigDict(
        dict(
            seeds=(0,),  # several seeds train at once, in one program
            batch_size=32,
            accumulate=1,
            exchange="all-to-all",  # of gradients; "reduce-scatter" and "all-reduce" do without new compiler options
            num_steps=0,  # 0: as many as `epochs` takes
            epochs=3.0,
            warmup=0.1,  # share of the steps
            max_length=128,  # tokens of an example, which is cut if it is longer, and of the rows that examples share
            init_from="",
            compile_cache="~/.cache/bert_tpu",
            reader=reader,
            data=data,
            model=dict(dropout=0.1, attention_dropout=0.1, dtype="bfloat16", remat=False),
            optim=dict(
                name="adamw",
                learning_rate=3e-5,
                schedule="linear",
                b1=0.9,
                b2=0.999,
                eps=1e-6,
                weight_decay=0.01,
                clip_norm=1.0,
            ),
            checkpoint=dict(every_steps=1000, keep_last=1, keep_every=0),
            eval=dict(every_steps=1000),
            log=dict(every_steps=50, to=()),
            profile=dict(first_step=0, num_steps=0),
            nonfinite=dict(stop_after=20),
            watchdog=dict(silent_s=30, stacks_s=300, exit_s=600),
        )
    )
