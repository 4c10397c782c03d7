"""Makes a vocabulary: python -m tools.train_tokenizer --input 'text/*.xz' --vocab_size N --out T

Trains a WordPiece vocabulary in BERT's id layout, the same one for the same text every time, and
writes vocab.txt, tokenizer.json and tokenizer_config.json.
"""

from collections.abc import Iterator
from pathlib import Path

from bert_tpu.core import command, progress
from bert_tpu.readers import sources
from bert_tpu.tokenizer import vocab, wordpiece

SAMPLE_BYTES = 1 << 30  # more text no longer changes a vocabulary, and its words need the memory


def main() -> None:
    """Trains the vocabulary that the command line asks for."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2])
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="GLOB",
        help="text files, also .gz .xz .bz2, or tfds:NAME (found in TFDS_DATA_DIR); "
        "of more than 1 GiB on disk every n-th document is read",
    )
    parser.add_argument("--vocab_size", type=int, required=True, help="pieces, special ones too")
    parser.add_argument("--out", required=True, help="the directory of the tokenizer")
    parser.add_argument("--cased", action="store_true", help="keep case and accents")
    parser.add_argument("--format", choices=sources.FORMATS, default="auto", help=sources.HELP)
    args = parser.parse_args()
    out = Path(args.out)
    if (out / "vocab.txt").exists():
        raise command.UserError(f"{out} holds a vocabulary already; delete it or name another --out")
    found = sources.find(args.input)
    counts = {name: sources.Counts() for name in ("letters", "words")}
    passes = iter(counts.items())
    out.mkdir(parents=True, exist_ok=True)  # better found out before the work
    made = wordpiece.train(lambda: lines(found, args.format, *next(passes)), args.vocab_size, lower=not args.cased)
    vocab.save(made, out)
    if odd := counts["letters"].invalid_utf8:
        print(f"{odd:,} sequences of the input are no UTF-8 and were replaced")
    print(f"{args.out}: {len(made.pieces):,} pieces, {'un' if made.lower else ''}cased")


def lines(found: list[sources.Source], format: str, name: str, counts: sources.Counts) -> Iterator[str]:
    """The paragraphs of every n-th document, n such that about SAMPLE_BYTES on disk are used; `counts` goes along."""
    size = sum(source.bytes for source in found)
    every = size // SAMPLE_BYTES + 1
    with progress.bar(size, name) as shown:
        for i, document in enumerate(sources.documents(found, counts, text_format=format)):
            progress.goto(shown, counts.read_bytes)
            if i % every == 0:
                yield from document.plain().split("\n")


if __name__ == "__main__":
    command.run(main)
