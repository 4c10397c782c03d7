"""Exports a run as a PyTorch model in Hugging Face's format.

bert-tpu export --workdir W --out DIR

Writes the newest checkpoint of W and its tokenizer as a BertForPreTraining or, if W is a fine-tuning's, as the class
with its head. If PyTorch and transformers are installed, nothing is written unless they compute the same logits.
"""

from bert_tpu.core import command

with command.imports():
    from bert_tpu.core import storage
    from bert_tpu.export import pytorch
    from bert_tpu.huggingface import sentence_transformers
    from bert_tpu.training import orbax_setup


def main() -> None:
    """Exports and prints the comparison with PyTorch."""
    parser = command.Parser(description=__doc__)
    parser.add_argument(
        "--workdir", required=True, help="workdir of a pretraining or fine-tuning, or an imported checkpoint"
    )
    parser.add_argument("--out", required=True, type=storage.local, help="directory to create")
    parser.add_argument("--seed", type=int, help="which seed of a fine-tuning (default: the best by the first score)")
    parser.add_argument("--step", type=int, help="which kept checkpoint (default: the newest)")
    parser.add_argument(
        "--sentence-transformers",
        nargs="?",
        const="mean",
        default="",
        choices=sentence_transformers.MODES,
        help="also write the files with which SentenceTransformer(DIR) gives the vectors of bert-tpu embed; with "
        "--pool mean (default) or cls",
    )
    args = parser.parse_args()
    orbax_setup.quiet()
    export = pytorch.export(args.workdir, args.out, args.seed, step=args.step, pool=args.sentence_transformers)
    note = f" ({export.note})" if export.note else ""
    comparison = export.comparison
    difference = f"; logits differ by at most {comparison.difference:.1e} from PyTorch's" if comparison else ""
    print(f"{args.out}: {export.name} from {export.checkpoint}{note}{difference}")


if __name__ == "__main__":
    command.run(main)
