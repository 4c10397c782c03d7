"""Fine-tunes on your own texts or pairs of texts, in CSV, TSV, JSON or Parquet.

bert-tpu finetune --config pairs --workdir W --config.init_from=MODEL
--config.data.train=train.csv --config.data.validation=valid.csv
"""

import ml_collections

from bert_tpu.configs import tuning


def get_config(head: str = "classify") -> ml_collections.ConfigDict:
    """Returns the config for classes, or for numbers ("regress"). Its `data` has the names of the columns."""
    if head not in ("classify", "regress"):
        raise ValueError(f"there is no head {head!r}: choose classify or regress")
    return tuning.get_config(
        "table", train="", validation="", test="", text="text", text_pair="", label="label", head=head
    )
