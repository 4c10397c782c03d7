"""Named entities, or any other tag for each word: CoNLL's columns, or tfds:conll2003.

python -m bert_tpu.finetune --config configs/ner.py --workdir W --config.init_from=MODEL --config.data.dir=CONLL
"""

from configs import tuning


def get_config():
    """The config of three files of one folder; name others by --config.data.train and the like."""
    cfg = tuning.get_config("ner", dir="", train="train.txt", validation="valid.txt", test="test.txt")
    cfg.optim.learning_rate = 5e-5
    return cfg
