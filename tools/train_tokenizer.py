"""Trains a WordPiece vocabulary.

python -m tools.train_tokenizer --input 'text/*.xz' --vocab_size N --out T

Writes vocab.txt, tokenizer.json and tokenizer_config.json. The ids have BERT's layout. The same text always gives the
same vocabulary.
"""

from collections.abc import Iterator
from pathlib import Path

from bert_tpu.core import command

with command.imports():
    from bert_tpu.core import progress
    from bert_tpu.readers import decoding, sources
    from bert_tpu.tokenizer import vocab, wordpiece

SAMPLE_BYTES = 1 << 30  # more text hardly changes a vocabulary, and its words need memory


def main() -> None:
    """Trains the vocabulary and prints its size."""
    parser = command.Parser(description=__doc__)
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="GLOB",
        help="text files, also .gz .xz .bz2 .zst, tfds:NAME (in TFDS_DATA_DIR), or hf://datasets/OWNER/NAME/PATH; "
        "of more than 1 GiB on disk only every n-th document is used",
    )
    parser.add_argument("--vocab_size", type=int, required=True, help="number of pieces, special ones included")
    parser.add_argument("--out", required=True, help="directory of the tokenizer")
    parser.add_argument("--cased", action="store_true", help="keep case and accents")
    parser.add_argument("--format", choices=sources.FORMATS, default="auto", help=sources.HELP)
    parser.add_argument("--column", default="text", metavar="NAME", help=sources.COLUMN_HELP)
    args = parser.parse_args()
    out = Path(args.out)
    if (out / "vocab.txt").exists():
        raise command.UserError(f"{out} has a vocabulary already: delete it or give another --out")
    inputs = sources.find(args.input)
    sources.check(inputs, text_format=args.format, column=args.column)
    counts = {name: sources.Counts() for name in ("letters", "words")}
    passes = iter(counts.items())
    out.mkdir(parents=True, exist_ok=True)  # an error is better before the work than after it
    vocabulary = wordpiece.train(
        lambda: lines(inputs, args.format, args.column, *next(passes)), args.vocab_size, lower=not args.cased
    )
    vocab.save(vocabulary, out)
    for sentence in decoding.report(decoding.add([counts["letters"]])):
        print(sentence)
    print(f"{args.out}: {len(vocabulary.pieces):,} pieces, {'un' if vocabulary.lower else ''}cased")


def lines(
    inputs: list[sources.Source], text_format: str, column: str, name: str, counts: sources.Counts
) -> Iterator[str]:
    """Yields the paragraphs of every n-th document, with n such that about SAMPLE_BYTES on disk are used.

    inputs: the files to read.
    text_format: of sources.FORMATS.
    column: the key or column that holds the text.
    name: the title of the progress bar.
    counts: is updated with the bytes read and the invalid sequences.
    """
    size = sum(source.bytes for source in inputs)
    every = size // SAMPLE_BYTES + 1
    with progress.bar(size, name) as bar:
        for i, document in enumerate(sources.documents(inputs, counts, text_format=text_format, column=column)):
            progress.goto(bar, counts.read_bytes)
            if i % every == 0:
                yield from document.plain().split("\n")


if __name__ == "__main__":
    command.run(main)
