"""Fine-tunes on one task of GLUE.

bert-tpu finetune --config glue:rte --workdir W --config.init_from=MODEL --config.data.dir=GLUE

MODEL is a Hugging Face directory, a workdir of a pretraining or an imported model. GLUE is a folder of the official TSV
files, or tfds:glue/rte. On a CPU add --config.model.dtype=float32.
"""

import ml_collections

from bert_tpu.configs import tuning

TASKS = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli")


def get_config(task: str = "rte") -> ml_collections.ConfigDict:
    """Returns the config of one of TASKS."""
    if task not in TASKS:
        raise ValueError(f"there is no task {task!r}: choose from {', '.join(TASKS)}")
    return tuning.get_config("glue", task=task, dir="")
