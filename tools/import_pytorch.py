"""A PyTorch model to a checkpoint: python -m tools.import_pytorch --model DIR --out CKPT

DIR holds any BERT of Hugging Face. CKPT is what --config.init_from takes, and what tools.export_pytorch takes
as its --workdir; CKPT/config.json holds the config's `model` section, CKPT/tokenizer the vocabulary.
"""

import json

from bert_tpu.core import command, storage
from bert_tpu.huggingface import hf
from bert_tpu.model import param_layout
from bert_tpu.tokenizer import vocab
from bert_tpu.training import checkpoint

SEED = 0  # of the heads that an encoder comes without


def main() -> None:
    """Reads the flags and imports."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2])
    parser.add_argument("--model", required=True, help="a directory that save_pretrained made")
    parser.add_argument("--out", required=True, help="the directory to make")
    args = parser.parse_args()
    checkpoint.quiet_orbax()
    with storage.atomic_directory(args.out) as made:
        pretrained = hf.load(args.model)
        vocab.save(pretrained.vocab, made / "tokenizer")
        config = json.dumps({"model": pretrained.model}, indent=1, sort_keys=True)
        (made / "config.json").write_text(config + "\n")
        checkpoint.save_params(made, param_layout.pack(hf.complete(pretrained, SEED)))
    if pretrained.absent:
        print(f"{args.model} has no {', no '.join(pretrained.absent)}: initialized from seed {SEED}")
    print(f"{args.out}: {', '.join(f'{key} {value}' for key, value in pretrained.model.items())}")


if __name__ == "__main__":
    command.run(main)
