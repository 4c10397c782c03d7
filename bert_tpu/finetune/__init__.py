"""Fine-tuning, a task and a head on a pretrained encoder: `bert-tpu finetune`."""
