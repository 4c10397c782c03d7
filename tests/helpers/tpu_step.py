"""Compiles the training step of a small BERT for sixteen absent chips, in a separate process: it loads libtpu.

python tests/helpers/tpu_step.py OUT.hlo
"""

import pathlib
import sys

from bert_tpu.core import config
from bert_tpu.hardware import chips
from bert_tpu.planning import compiler
from bert_tpu.pretrain import pretraining

# As wide as `small`, but with one layer, few pieces and few rows, so that it compiles within seconds.
KEYS = {
    "model.num_layers": 1, "model.vocab_size": 2048, "batch_size": 128, "data.seq_lens": (128,),
    "data.max_predictions": (20,),
}  # fmt: skip
TOPOLOGY, SEQ_LEN = "v5e:4x4", 128


def main(out):
    """Compiles the step and writes its optimized text."""
    compiler.use_cpu_only()
    cfg = config.load("configs/bert.py:small")
    cfg.update_from_flattened_dict(KEYS)
    with compiler.hide_stderr():
        program = compiler.compile_step(pretraining.make_job(cfg), compiler.make_mesh(chips.find(TOPOLOGY)), SEQ_LEN)
    out.write_text(program.text)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
