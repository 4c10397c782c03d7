"""Texts or pairs of one's own, in CSV, TSV or JSON lines.

python -m bert_tpu.finetune --config configs/pairs.py --workdir W --config.init_from=MODEL
--config.data.train=train.csv --config.data.validation=valid.csv
"""

from configs import tuning


def get_config(head="classify"):
    """The config for classes, or for numbers ("regress"). The columns' names are keys of its `data`."""
    if head not in ("classify", "regress"):
        raise ValueError(f"configs/pairs.py has no head {head!r}: choose classify or regress")
    return tuning.get_config(
        "table", train="", validation="", test="", text="text", text_pair="", label="label", head=head
    )
