"""Scores sentences by how likely a model finds them: pseudo-log-likelihoods, in nats.

bert-tpu score --model DIR "a sentence" ["another" ...]

bert-tpu score --model DIR --input FILE --out X.jsonl

Two scores are given for each sentence. The original one masks one piece at a time (Salazar et al. 2020).
within_word_l2r also masks the rest of the piece's word (Kauf and Ivanova 2023): a word of several pieces is then not
guessed from its own end. DIR is any BERT with an MLM head, or a pretraining's workdir. No PyTorch is needed. "[MASK]"
in a sentence is ordinary text.
"""

import json
import math
from pathlib import Path
import sys

from bert_tpu.core import command, numerals

with command.imports():
    import numpy as np

    from bert_tpu.core import storage
    from bert_tpu.inference import line_texts, pseudo_likelihood
    from bert_tpu.training import orbax_setup


def main() -> None:
    """Scores the sentences, and prints or writes the scores."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--model", required=True, help="a Hugging Face directory, a workdir or an imported model")
    parser.add_argument("--input", help="UTF-8 file with a sentence on each line; - for stdin")
    parser.add_argument(
        "--out", type=storage.local, help="X.jsonl: a line for each sentence, with both scores, its tokens and words"
    )
    parser.add_argument("text", nargs="*", help="sentences to score, in place of --input and --out")
    args = parser.parse_args()
    if bool(args.text) == bool(args.input) or bool(args.input) != bool(args.out):
        raise command.UserError("give sentences, or --input FILE and --out X.jsonl")
    if args.out and Path(args.out).suffix != ".jsonl":
        raise command.UserError(f"--out {args.out} does not end in .jsonl: name it so")
    orbax_setup.quiet()
    texts = args.text or read(args.input)
    scorer = pseudo_likelihood.load(args.model)
    sentences = [encode(scorer, text, number) for number, text in enumerate(texts, start=1)]
    if args.out:
        write(scorer, sentences, args.out)
        return
    print("  ".join(f"{rule:>15}" for rule in pseudo_likelihood.RULES))
    for text, row in zip(texts, pseudo_likelihood.scores(scorer, sentences), strict=True):
        print("  ".join(f"{score:15.3f}" for score in row), f" {text}")


def read(source: str) -> list[str]:
    """Returns the lines of a file, or of stdin if `source` is "-".

    Raises UserError for a line that is not UTF-8, and for JSON and tables.
    """
    raw = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    # Lines as bert-tpu embed and other programs count them: bytes.splitlines would split at a carriage return, too.
    lines = [line.rstrip(b"\r") for line in raw.removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n").split(b"\n")]
    if not any(lines):
        raise command.UserError(f"{line_texts.name(source)} is empty: give a sentence on each line")
    texts = []
    for number, line in enumerate(line_texts.checked(lines, source), start=1):
        try:
            texts.append(line.decode())
        except UnicodeDecodeError:
            raise command.UserError(f"line {number} is not UTF-8 text: convert the file") from None
    return texts


def encode(scorer: pseudo_likelihood.Scorer, text: str, number: int) -> pseudo_likelihood.Sentence:
    """Returns the pieces of sentence `number`. Raises UserError if it is too long or has none."""
    try:
        sentence = pseudo_likelihood.encode(scorer, text)
    except command.UserError as error:
        raise command.UserError(f"line {number}: {error}") from None
    if not sentence.ends:
        raise command.UserError(f"line {number} has no text to score: leave it out")
    return sentence


def write(scorer: pseudo_likelihood.Scorer, sentences: list[pseudo_likelihood.Sentence], out: str) -> None:
    """Writes a line of JSON for each sentence, and prints the pseudo-perplexity of all."""
    rules, total = pseudo_likelihood.RULES, np.zeros(len(pseudo_likelihood.RULES))
    with storage.atomic_file(out) as file:
        for sentence, row in zip(sentences, pseudo_likelihood.in_blocks(scorer, sentences), strict=True):
            values = dict(zip(rules, (float(f"{score:.7g}") for score in row), strict=True))
            file.write((json.dumps(values | {"tokens": len(sentence.ends), "words": sentence.words}) + "\n").encode())
            total += row
    tokens = sum(len(sentence.ends) for sentence in sentences)
    perplexities = ", ".join(
        f"{rule} {math.exp(min(-score / tokens, 700)):,.4g}" for rule, score in zip(rules, total, strict=True)
    )
    print(
        f"{out}: {numerals.count(len(sentences), 'line')}, {tokens:,} tokens; pseudo-perplexity of a token: "
        f"{perplexities}"
    )


if __name__ == "__main__":
    command.run(main)
