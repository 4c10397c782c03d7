"""Trains a WordPiece vocabulary.

bert-tpu train-tokenizer --input 'text/*.xz' --vocab_size N --out T

Writes vocab.txt, tokenizer.json and tokenizer_config.json. The ids have BERT's layout. The same text always gives the
same vocabulary.
"""

from collections.abc import Iterator
import hashlib
from pathlib import Path
import sys

from bert_tpu.core import command

with command.imports():
    from bert_tpu.core import progress, storage
    from bert_tpu.corpus import clean, language_notes, preview, worker
    from bert_tpu.readers import decoding, parquet, sources, wiki_markup
    from bert_tpu.tokenizer import encoding, normalization, vocab, wordpiece

SAMPLE_BYTES = 1 << 30  # more text hardly changes a vocabulary, and its words need memory
RUNS = 8  # of rows that are read of a Parquet file, if not all are


def main() -> None:
    """Trains the vocabulary and prints its size."""
    parser = command.Parser(description=__doc__)
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="GLOB",
        help="text files, also .gz .xz .bz2 .zst, tfds:NAME (in TFDS_DATA_DIR), or hf://datasets/OWNER/NAME/PATH; "
        "of more than 1 GiB on disk only a sample is used",
    )
    parser.add_argument("--vocab_size", type=int, required=True, help="number of pieces, special ones included")
    parser.add_argument("--out", required=True, type=storage.local, help="directory of the tokenizer")
    parser.add_argument("--cased", action="store_true", help="keep case and accents")
    parser.add_argument(
        "--normal_form", choices=clean.FORMS, default="NFC", help="Unicode normal form, as of prepare (default: NFC)"
    )
    parser.add_argument("--format", choices=sources.FORMATS, default="auto", help=sources.HELP)
    parser.add_argument("--column", default="text", metavar="NAME", help=sources.COLUMN_HELP)
    args = parser.parse_args()
    out = Path(args.out)
    if (out / "vocab.txt").exists():
        raise command.UserError(f"{out} has a vocabulary already: delete it or give another --out")
    inputs = sources.find(args.input)
    folders = {Path(source.path).parent for source in inputs}
    if out.resolve() in {folder.resolve() for folder in folders}:
        raise command.UserError(f"--out {out} has files of the input, and would be input itself: give another --out")
    sources.check(inputs, text_format=args.format, column=args.column)
    documents = preview.beginnings(inputs, worker.Options(format=args.format, column=args.column))
    texts = [document.plain() for document in documents]
    pairs = [(document, text) for document, text in zip(documents, texts, strict=True) if document.is_markup]
    for note in wiki_markup.notes((inputs[document.source].path, document.text, text) for document, text in pairs):
        print(f"warning: {note}", file=sys.stderr)
    plain = encoding.Encoder(vocab.Vocab(wordpiece.LAYOUT, not args.cased))
    if note := language_notes.marks_note(texts, plain, "add --cased"):
        print(f"warning: {note}", file=sys.stderr)
    counts = {name: sources.Counts() for name in ("letters", "words")}
    passes = iter(counts.items())
    out.mkdir(parents=True, exist_ok=True)  # an error is better before the work than after it
    try:
        with command.ended_by_ctrl_c():
            vocabulary = wordpiece.train(
                lambda: lines(inputs, args.format, args.column, args.normal_form, *next(passes)), args.vocab_size,
                lower=not args.cased,
            )  # fmt: skip
    except wordpiece.NoTextError:
        problem = decoding.no_text([source.path for source in inputs], decoding.add([counts["letters"]]))
        if any(map(str.split, texts)):
            problem += f" but words of more than {normalization.GOOGLE_RULES.max_chars} characters"
        raise command.UserError(f"{problem}; name files with text, or its key or column by --column") from None
    vocab.save(vocabulary, out)
    if (every := sampled(inputs)) > 1:
        print(f"a sample was used, one document in {every:,}: the input has more than {SAMPLE_BYTES >> 30} GiB")
    sums = decoding.add([counts["letters"]]) | {"options": {"normal_form": args.normal_form}}
    for sentence in decoding.report(sums):
        print(sentence)
    print(f"{args.out}: {vocab.describe(vocabulary)}")


def lines(
    inputs: list[sources.Source], text_format: str, column: str, normal_form: str, name: str, counts: sources.Counts
) -> Iterator[str]:
    """Yields the paragraphs of a sample of documents that has about SAMPLE_BYTES on disk.

    inputs: the files to read.
    text_format: of sources.FORMATS.
    column: the key or column that holds the text.
    normal_form: of clean.FORMS.
    name: the title of the progress bar.
    counts: is updated with the bytes read and the invalid sequences.
    """
    every = sampled(inputs)
    shares = [share for number, source in enumerate(inputs) for share in read_shares(source, number, every)]
    with progress.bar(sum(share.share_bytes for share in shares), name) as bar:
        for i, document in enumerate(sources.documents(shares, counts, text_format=text_format, column=column)):
            progress.goto(bar, counts.read_bytes)
            if shares[document.source].share != sources.WHOLE or _is_chosen(i, every):
                yield from clean.normal(document.plain(), normal_form).split("\n")


def sampled(inputs: list[sources.Source]) -> int:
    """Returns n if one document in n is used."""
    return sum(source.bytes for source in inputs) // SAMPLE_BYTES + 1


def _is_chosen(number: int, every: int) -> bool:
    """Returns whether a document is one of a sample of one in `every`.

    By a hash of its number, because the documents may come in turn, as those of two languages.
    """
    digest = hashlib.blake2b(number.to_bytes(8, "little"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % every == 0


def read_shares(source: sources.Source, number: int, every: int) -> list[sources.Source]:
    """Returns the parts of a source to read: RUNS of a Parquet file, whose other rows need not be read, else all of it.

    A file with too few row groups is read whole: a row group is in one part, so that most parts would be empty.

    number: of the source, which decides where the parts begin.
    every: one byte in so many is to be read.
    """
    if every == 1 or not source.path.endswith(parquet.SUFFIX):
        return [source]
    with sources.open_raw(source) as file:
        if parquet.count_groups(file, source.path) < RUNS * every:
            return [source]
    return [source._replace(share=(i, RUNS * every)) for i in range(number % every, RUNS * every, every)]


if __name__ == "__main__":
    command.run(main)
