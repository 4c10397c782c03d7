"""Converts a BERT of Hugging Face or Google to a checkpoint from which a pretraining can start.

bert-tpu import --model DIR --out CKPT [--tokenizer NEW]

DIR has any BERT: of Hugging Face, a TensorFlow checkpoint of google-research/bert, or a workdir. CKPT serves as
--config.init_from and as --workdir of bert-tpu export. CKPT/config.json has the config's `model` section,
CKPT/tokenizer the vocabulary.

With --tokenizer, CKPT has the vocabulary NEW. A piece that DIR's vocabulary has, too, keeps its embedding; another gets
the mean of those of the pieces into which DIR's tokenizer divides its text. It has to be trained before it is used.
"""

import json

from bert_tpu.core import command

with command.imports():
    from bert_tpu.core import storage
    from bert_tpu.huggingface import hf, new_vocabulary, pretrained, spare_rows
    from bert_tpu.model import param_layout
    from bert_tpu.tokenizer import vocab
    from bert_tpu.training import orbax_setup, saved_params

SEED = 0  # for the heads that the model lacks


def main() -> None:
    """Imports and prints the model's sizes."""
    parser = command.Parser(description=__doc__)
    parser.add_argument(
        "--model", required=True, help="directory written by save_pretrained, or a download of google-research/bert"
    )
    parser.add_argument("--out", required=True, type=storage.local, help="directory to create")
    parser.add_argument("--tokenizer", help="another vocabulary: a vocab.txt or its directory (default: the model's)")
    parser.add_argument(
        "--rows",
        choices=new_vocabulary.ROWS,
        default="mean",
        help="with --tokenizer, for comparisons: draw the embeddings of pieces that the model lacks (copied), or all",
    )
    args = parser.parse_args()
    if args.rows != "mean" and not args.tokenizer:
        parser.error("--rows says how another vocabulary starts, and there is no --tokenizer")
    storage.check_orbax_can_write(args.out, "--out")
    orbax_setup.quiet()
    with storage.atomic_directory(args.out) as folder:
        model = pretrained.load(args.model)
        if args.tokenizer:
            model, counts = new_vocabulary.transfer(model, vocab.load(args.tokenizer), args.rows)
            print(
                f"embeddings of {args.tokenizer}: {counts.copied:,} kept, {counts.averaged:,} the mean of those of "
                f"pieces with the same text, {counts.none:,} the mean of all"
                + ("" if args.rows == "mean" else f"; rows={args.rows}: the others are drawn")
            )
        vocab.save(model.vocab, folder / "tokenizer")
        config = json.dumps({"model": model.model, "absent": model.absent}, indent=1, sort_keys=True)
        (folder / "config.json").write_text(config + "\n")
        spare_rows.write(folder, model.spare)
        saved_params.save_params(folder, param_layout.pack(hf.complete(model, SEED)))
    if model.absent:
        print(f"{args.model} has no {', no '.join(model.absent)}: initialized from seed {SEED}")
    print(f"tokenizer: {vocab.describe(model.vocab)}")
    print(f"{args.out}: {', '.join(f'{key} {value}' for key, value in model.model.items())}")


if __name__ == "__main__":
    command.run(main)
