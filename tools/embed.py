"""Vectors of lines of text: python -m tools.embed --model DIR --input FILE --out X.npy

DIR is any BERT of Hugging Face or a workdir. X.npy has a row for each line of FILE; X.jsonl a line, with --pool tokens
the pieces and a vector for each. Needs no PyTorch.
"""

from bert_tpu.core import command
from bert_tpu.inference import embed
from bert_tpu.training import checkpoint


def main() -> None:
    """Reads the flags, embeds, and says how much."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2])
    parser.add_argument("--model", required=True, help="a Hugging Face directory, a workdir or an imported model")
    parser.add_argument("--input", required=True, help="a text each line, UTF-8; - for stdin")
    parser.add_argument("--out", required=True, help="X.npy or X.jsonl")
    parser.add_argument(
        "--layer", type=int, default=-1, help="0: embeddings; n: after layer n; -1: after the last (-1)"
    )
    parser.add_argument(
        "--pool", choices=embed.POOLS, default="mean", help="[CLS], mean of all tokens, each token (mean)"
    )
    parser.add_argument("--batch_size", type=int, default=64, help="rows at a time (64)")
    args = parser.parse_args()
    checkpoint.quiet_orbax()
    embedder = embed.load(args.model, layer=args.layer, pool=args.pool, batch_size=args.batch_size)
    counts = embed.write(embedder, args.input, args.out)
    cut = f", {counts.cut:,} of them cut to {embedder.bert.max_positions:,} tokens" if counts.cut else ""
    print(f"{args.out}: {counts.lines:,} lines{cut}")


if __name__ == "__main__":
    command.run(main)
