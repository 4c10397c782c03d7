"""Prepares a corpus from documents.

bert-tpu prepare --input 'text/*.xz' --tokenizer T --out C [--runner R -- ...]

Splits documents into sentences, tokenizes them in several processes, and writes shards of ids and corpus.json. If it
is killed, the same command continues. With --runner, Apache Beam reads and tokenizes, on one or many machines; Beam's
own options follow --.
"""

import argparse
import sys
import time

from bert_tpu.core import command

with command.imports():
    from etils import epath

    from bert_tpu.core import numerals
    from bert_tpu.corpus import clean, lockfile, prepare, store, worker
    from bert_tpu.huggingface import sentence_transformers
    from bert_tpu.readers import sources
    from bert_tpu.tokenizer import vocab


def parse_args() -> tuple[argparse.Namespace, list[str]]:
    """Returns the arguments of the command line, and the words after --."""
    parser = command.Parser(description=__doc__)
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="GLOB",
        help="text files, also .gz .xz .bz2 .zst, tfds:NAME (in TFDS_DATA_DIR), or hf://datasets/OWNER/NAME/PATH",
    )
    parser.add_argument("--tokenizer", required=True, help="vocab.txt or directory of tokenizer files")
    parser.add_argument("--out", help="directory of the corpus")
    parser.add_argument(
        "--sample", type=int, metavar="N", help="only print N documents as they would be stored; needs no --out"
    )
    parser.add_argument("--scratch", default="", metavar="DIR", help="local directory to work in if --out is gs://...")
    parser.add_argument("--workers", type=int, help="number of processes (default: one for each core)")
    parser.add_argument("--heldout", type=float, default=0.01, help="share of documents for evaluation (default: 0.01)")
    parser.add_argument("--format", choices=sources.FORMATS, default="auto", help=sources.HELP)
    parser.add_argument("--column", default="text", metavar="NAME", help=sources.COLUMN_HELP)
    parser.add_argument("--normal_form", choices=clean.FORMS, default="NFC", help="Unicode normal form (default: NFC)")
    parser.add_argument("--keep_licence", action="store_true", help="do not remove Project Gutenberg's licence")
    parser.add_argument(
        "--language",
        default="",
        metavar="CODE",
        help="leave out documents not in this language, such as en, and split sentences by its rules",
    )
    parser.add_argument("--min_tokens", type=int, default=1, help="leave out documents of fewer tokens (default: 1)")
    parser.add_argument(
        "--duplicates", choices=prepare.DUPLICATES, default="exact",
        help="leave out equal documents (default), also similar ones (near), or none (keep)",
    )  # fmt: skip
    parser.add_argument(
        "--similarity", type=float, default=0.8, help="documents of at least this similarity are similar (default: 0.8)"
    )
    parser.add_argument(
        "--decontaminate", default="", metavar="DIR", help="leave out sentences of the benchmarks in this folder"
    )
    parser.add_argument(
        "--mix", nargs="+", default=(), metavar="GLOB=TIMES",
        help="how often to read sources: '*books*=2' (epochs) or, for all sources, '*books*=30%%' (share of tokens)",
    )  # fmt: skip
    parser.add_argument(
        "--runner",
        default="",
        help="runner of Apache Beam: FnApiRunner (this machine), DataflowRunner, FlinkRunner, ...",
    )
    words = [*sys.argv[1:], "--"]
    return parser.parse_args(words[: words.index("--")]), words[words.index("--") + 1 : -1]


def main() -> None:
    """Prepares the corpus and prints its counts."""
    args, beam_options = parse_args()
    options = {name: getattr(args, name) for name in worker.Options._fields}
    if args.sample is not None:
        for line in prepare.sample(
            args.input, args.tokenizer, args.sample, decontaminate=args.decontaminate, **options
        ):
            print(line)
        return
    if not args.out:
        raise command.UserError("--out is missing; name a folder for the corpus, or look at documents with --sample 5")
    # The work of an earlier run must not count for this run's speed.
    folder = epath.Path(args.scratch or args.out)
    fresh = not any((folder / name).exists() for name in (store.PLAN, store.LOCKFILE))
    vocabulary = vocab.load(args.tokenizer)
    print(f"tokenizer: {vocab.describe(vocabulary)}", flush=True)
    if lost := vocab.unreachable(vocabulary):
        print(f"warning: {args.tokenizer}: {lost}", flush=True)
    if lowered := sentence_transformers.lowering(args.tokenizer, vocabulary.lower):
        print(f"warning: {lowered}", flush=True)
    start = time.perf_counter()
    lock = prepare.prepare(
        args.input,
        args.tokenizer,
        args.out,
        workers=args.workers,
        decontaminate=args.decontaminate,
        scratch=args.scratch,
        runner=args.runner,
        beam_options=beam_options,
        **options,
    )
    seconds = time.perf_counter() - start
    for split in store.SPLITS:
        part = lock.content[split]
        documents = numerals.inflect(part["documents"], "[document|documents]")
        print(
            f"{split:8}{part['documents']:>12,} {documents} of {numerals.count(part['texts'], 'text')} "
            f"{part['sentences']:>13,} sentences {part['tokens']:>15,} tokens  [UNK] {part['unknown_share']:.3%}"
        )
    print(lockfile.sentence_summary(lock.content))
    for sentence in lockfile.reading_report(lock.content):
        print(sentence)
    print(f"cleaning: {lockfile.cleaning_summary(lock.content) or 'no document was changed or left out'}")
    if lock.content["heldout"]["texts"] < 2:
        print("one held-out text is too few to evaluate on: prepare into another --out with a larger --heldout")
    if lock.pair_warning:
        print(f"warning: {lock.pair_warning}")
    tokens = sum(lock.content[split]["tokens"] for split in store.SPLITS)
    speed = f", {tokens / seconds:,.0f} tokens/s" if fresh else ""
    print(f"{args.out}: done in {seconds:.1f} s{speed}")


if __name__ == "__main__":
    command.run(main)
