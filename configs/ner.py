"""Fine-tunes for named entities, or another tag for each word, on files of columns, rows of lists, or tfds:conll2003.

bert-tpu finetune --config ner --workdir W --config.init_from=MODEL --config.data.dir=CONLL
"""

import ml_collections

from bert_tpu.configs import tuning


def get_config() -> ml_collections.ConfigDict:
    """Returns the config for three files in one folder. --config.data.train=FILE and the like name other files
    in it, or paths without a folder.

    Columns are found by their contents; word_column and tag_column name them, or number them from 1. scheme=words is
    for tags that mark no entities but look as if they did.
    """
    cfg = tuning.get_config(
        "ner", dir="", train="train.txt", validation="valid.txt", test="test.txt",
        word_column="", tag_column="", scheme="",
    )  # fmt: skip
    cfg.optim.learning_rate = 5e-5
    return cfg
