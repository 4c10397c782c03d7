"""Fine-tunes: `python -m bert_tpu.finetune`."""

from bert_tpu.core import command
from bert_tpu.finetune import finetuning

command.run(finetuning.main)
