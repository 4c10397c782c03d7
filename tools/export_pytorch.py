"""A run to a PyTorch model: python -m tools.export_pytorch --workdir W --out DIR

Writes the newest checkpoint of W as Hugging Face's BertForPreTraining with its tokenizer. Where PyTorch and
transformers are installed, nothing is written unless they compute the same logits from it.
"""

from bert_tpu import checkpoint, command, export


def main() -> None:
    """Reads the flags and exports."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2])
    parser.add_argument("--workdir", required=True, help="of a pretraining, or an imported checkpoint")
    parser.add_argument("--out", required=True, help="the directory to make")
    args = parser.parse_args()
    checkpoint.quiet()
    made = export.export(args.workdir, args.out)
    agree = f"; logits differ by at most {made.checked.difference:.1e} from PyTorch's" if made.checked else ""
    print(f"{args.out}: BertForPreTraining from {made.checkpoint}{agree}")


if __name__ == "__main__":
    command.run(main)
