"""Imports a PyTorch model of Hugging Face as a checkpoint.

python -m tools.import_pytorch --model DIR --out CKPT

DIR has any BERT: of Hugging Face, or a TensorFlow checkpoint of google-research/bert. --config.init_from takes CKPT,
and so does --workdir of tools.export_pytorch. CKPT/config.json has the config's `model` section, CKPT/tokenizer the
vocabulary.
"""

import json

from bert_tpu.core import command

with command.imports():
    from bert_tpu.core import storage
    from bert_tpu.huggingface import hf, spare_rows
    from bert_tpu.model import param_layout
    from bert_tpu.tokenizer import vocab
    from bert_tpu.training import checkpoint, orbax_setup

SEED = 0  # for the heads that the model lacks


def main() -> None:
    """Imports and prints the model's sizes."""
    parser = command.Parser(description=__doc__)
    parser.add_argument(
        "--model", required=True, help="directory written by save_pretrained, or a download of google-research/bert"
    )
    parser.add_argument("--out", required=True, help="directory to create")
    args = parser.parse_args()
    orbax_setup.quiet()
    with storage.atomic_directory(args.out) as folder:
        pretrained = hf.load(args.model)
        vocab.save(pretrained.vocab, folder / "tokenizer")
        config = json.dumps({"model": pretrained.model}, indent=1, sort_keys=True)
        (folder / "config.json").write_text(config + "\n")
        spare_rows.write(folder, pretrained.spare)
        checkpoint.save_params(folder, param_layout.pack(hf.complete(pretrained, SEED)))
    if pretrained.absent:
        print(f"{args.model} has no {', no '.join(pretrained.absent)}: initialized from seed {SEED}")
    print(f"{args.out}: {', '.join(f'{key} {value}' for key, value in pretrained.model.items())}")


if __name__ == "__main__":
    command.run(main)
