"""Fine-tuning, a task and a head on a pretrained encoder: `python -m bert_tpu.finetune`."""
