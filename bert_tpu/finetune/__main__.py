"""Fine-tunes a pretrained encoder on a task: GLUE, SQuAD, NER or your own table.

bert-tpu finetune --config glue:rte --workdir W --config.init_from=MODEL --config.data.dir=GLUE
"""

import sys

from bert_tpu.core import command

with command.imports():
    from etils import epath

    from bert_tpu.core import config, storage
    from bert_tpu.distributed import rendezvous
    from bert_tpu.finetune import finetuning
    from bert_tpu.hardware import host_memory
    from bert_tpu.monitoring import hours
    from bert_tpu.training import orbax_setup


def main() -> None:
    """Reads the command line and fine-tunes, together with the other hosts that the environment names."""
    orbax_setup.quiet()
    host_memory.keep_freed_memory()
    with rendezvous.connect() as group:
        parser = command.Parser(description=__doc__)
        parser.add_argument(
            "--workdir", required=True, type=epath.Path,
            help="directory of the run, which gets scores and predictions; a stopped run continues from it",
        )  # fmt: skip
        args = config.parse(parser, config.TUNING)
        code = finetuning.run(args.config, storage.absolute(args.workdir), group, hours.process_began_s())
    sys.exit(code)


if __name__ == "__main__":
    command.run(main)
