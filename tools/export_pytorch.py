"""A run to a PyTorch model: python -m tools.export_pytorch --workdir W --out DIR

Writes the newest checkpoint of W with its tokenizer as Hugging Face's BertForPreTraining or, if W is a fine-tuning's,
as the class that has its head. Where PyTorch and transformers are installed, nothing is written unless they compute
the same logits from it.
"""

from bert_tpu.core import command
from bert_tpu.export import pytorch
from bert_tpu.training import checkpoint


def main() -> None:
    """Reads the flags and exports."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2])
    parser.add_argument("--workdir", required=True, help="of a pretraining or fine-tuning, or an imported checkpoint")
    parser.add_argument("--out", required=True, help="the directory to make")
    parser.add_argument("--seed", type=int, help="of a fine-tuning of several seeds (the best by the first score)")
    args = parser.parse_args()
    checkpoint.quiet_orbax()
    made = pytorch.export(args.workdir, args.out, args.seed)
    which = f" ({made.note})" if made.note else ""
    agree = f"; logits differ by at most {made.comparison.difference:.1e} from PyTorch's" if made.comparison else ""
    print(f"{args.out}: {made.name} from {made.checkpoint}{which}{agree}")


if __name__ == "__main__":
    command.run(main)
