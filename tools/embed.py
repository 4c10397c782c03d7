"""Writes a vector for each line of a text.

bert-tpu embed --model DIR --input FILE --out X.npy

DIR is any BERT of Hugging Face or google-research/bert, or a workdir. X.npy gets a row for each line of FILE; X.jsonl a
line of JSON. With --pool tokens a line of X.jsonl has the pieces of the text and a vector for each. No PyTorch is
needed.

"[MASK]" and the like in a text is ordinary text. Of a sentence-transformers directory only the encoder is used: its own
lower-casing, length, prompt, dense layers and normalization are not applied, and a line names each that it has.
"""

import sys

from bert_tpu.core import command, numerals

with command.imports():
    from bert_tpu.core import storage
    from bert_tpu.huggingface import sentence_transformers
    from bert_tpu.inference import embed
    from bert_tpu.training import orbax_setup


def main() -> None:
    """Embeds the lines and prints how many there were."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--model", required=True, help="a Hugging Face directory, a workdir or an imported model")
    parser.add_argument("--input", required=True, help="UTF-8 file with a text on each line; - for stdin")
    parser.add_argument("--out", required=True, type=storage.local, help="X.npy or X.jsonl")
    parser.add_argument(
        "--layer", type=int, default=-1, help="0: embeddings; n: output of layer n; -1: of the last (default)"
    )
    parser.add_argument(
        "--pool",
        choices=embed.POOLS,
        default="mean",
        help="vector of [CLS], mean over all tokens (default), or each token's",
    )
    parser.add_argument("--batch_size", type=int, default=64, help="rows computed at a time (default: 64)")
    args = parser.parse_args()
    orbax_setup.quiet()
    embedder = embed.load(args.model, layer=args.layer, pool=args.pool, batch_size=args.batch_size)
    positions = embedder.bert.max_positions
    for note in sentence_transformers.notes(args.model, args.pool, max_positions=positions):
        print(note, file=sys.stderr)
    counts = embed.write(embedder, args.input, args.out)
    if counts.marked:
        print(
            f"names of special pieces, such as [MASK], are in {counts.marked:,} of the lines: they are ordinary text "
            "here and special pieces to transformers, whose vectors differ",
            file=sys.stderr,
        )
    cut = f", {counts.cut:,} of them cut to {positions:,} tokens" if counts.cut else ""
    print(f"{args.out}: {numerals.count(counts.lines, 'line')}{cut}")


if __name__ == "__main__":
    command.run(main)
