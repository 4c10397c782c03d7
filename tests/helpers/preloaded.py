"""All that our commands import, imported once by the process that warm_processes.py copies."""

from bert_tpu.core import command

with command.imports():
    import onnxscript  # noqa: F401

    import bert_tpu.corpus.prepare
    import bert_tpu.data.corpus_batches
    import bert_tpu.export.pytorch
    import bert_tpu.training.hooks
    import bert_tpu.training.replay  # noqa: F401
