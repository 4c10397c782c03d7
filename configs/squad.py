"""Fine-tunes on SQuAD 1.1 or 2.0: answers to questions as spans of a paragraph.

bert-tpu finetune --config squad:1.1 --workdir W --config.init_from=MODEL
--config.data.train=train-v1.1.json --config.data.validation=dev-v1.1.json
"""

import ml_collections

from bert_tpu.configs import tuning

VERSIONS = ("1.1", "2.0")


def get_config(version: str = "1.1") -> ml_collections.ConfigDict:
    """Returns the config of one of VERSIONS. The answer search is that of run_squad.py of google-research/bert."""
    if version not in VERSIONS:
        raise ValueError(f"there is no version {version!r}: choose from {', '.join(VERSIONS)}")
    cfg = tuning.get_config(
        "squad", train="", validation="", version=version, doc_stride=128, max_query_length=64, max_answer_length=30,
        n_best=20, null_threshold=0.0, misplaced="refuse",
    )  # fmt: skip
    cfg.max_length = 384
    cfg.epochs = 2.0
    cfg.optim.learning_rate = 5e-5
    return cfg
