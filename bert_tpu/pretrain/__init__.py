"""Pretraining with MLM + NSP: `bert-tpu pretrain`."""
