"""Pretraining with MLM + NSP: `python -m bert_tpu.pretrain`."""
