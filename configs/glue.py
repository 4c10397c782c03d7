"""GLUE, a task at a time: python -m bert_tpu.finetune --config configs/glue.py:rte --workdir W
--config.init_from=MODEL --config.data.dir=GLUE

MODEL: a Hugging Face directory, a workdir of a pretraining or an imported model. GLUE: the official TSV files, or
tfds:glue/rte. The recipe is that of the BERT paper (appendix A.3): 3 epochs of 32 rows at 2e-5 to 5e-5, a tenth of them
warm-up, then linear decay.
"""

import ml_collections

# Epochs and rate where they are not 3 and 3e-5: small tasks take longer to move.
TASKS = {
    "cola": {},
    "sst2": {},
    "mrpc": {},
    "stsb": {},
    "qqp": {},
    "mnli": {},
    "qnli": {},
    "rte": {},
    "wnli": {},
}


def get_config(task="rte"):
    """The config of one of TASKS."""
    if task not in TASKS:
        raise ValueError(f"configs/glue.py has no task {task!r}: choose from {', '.join(TASKS)}")
    cfg = ml_collections.ConfigDict(
        dict(
            seeds=(0,),  # several train at once, in one program
            batch_size=32,
            accumulate=1,
            num_steps=0,  # 0: so many as the epochs have
            epochs=3.0,
            warmup=0.1,  # share of the steps
            seq_lens=(32, 64, 128),  # a batch is as long as its longest row asks for; the last cuts
            init_from="",
            compile_cache="~/.cache/bert_tpu",
            reader="glue",
            data=dict(task=task, dir=""),
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
            log=dict(every_steps=50, tensorboard=False),
            profile=dict(first_step=0, num_steps=0),
            nonfinite=dict(stop_after=20),
            watchdog=dict(silent_s=30, stacks_s=300, exit_s=600),
        )
    )
    cfg.update_from_flattened_dict(TASKS[task])
    return cfg
