"""Pretrains: `python -m bert_tpu.pretrain`."""

from bert_tpu.core import command
from bert_tpu.pretrain import pretraining

command.run(pretraining.main)
