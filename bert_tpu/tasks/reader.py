"""Reads the task of a config, with the reader that `config.reader` names."""

from collections.abc import Callable

import ml_collections

from bert_tpu.core import command, config
from bert_tpu.tasks import glue, ner, squad, table
from bert_tpu.tasks.task import Task
from bert_tpu.tokenizer import vocab

READERS: dict[str, Callable[..., Task]] = {
    "glue": glue.load, "ner": ner.load, "squad": squad.load, "table": table.load
}  # fmt: skip


def read(cfg: ml_collections.ConfigDict, vocabulary: vocab.Vocab) -> Task:
    """Returns the task of `cfg.data`, its texts as pieces of `vocabulary`. Raises UserError as the reader does."""
    if cfg.reader not in READERS:
        raise command.UserError(f"config.reader {cfg.reader!r} is not one of {', '.join(READERS)}")
    return config.call(READERS[cfg.reader], cfg.data, "data", max_length=cfg.max_length, vocabulary=vocabulary)
