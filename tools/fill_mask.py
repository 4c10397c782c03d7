"""Prints the likeliest words for each [MASK] in a text.

bert-tpu fill-mask --model DIR "text with [MASK]" ["more [MASK]" ...]

DIR is a directory written by bert-tpu export, or any BERT of Hugging Face or google-research/bert with an MLM
head. No PyTorch is needed.
"""

from bert_tpu.core import command

with command.imports():
    from bert_tpu.inference import fill_mask


def main() -> None:
    """Prints a table for each [MASK] of each text."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--model", required=True, help="directory of a BERT with an MLM head")
    parser.add_argument("--top_k", type=int, default=5, help="pieces for each [MASK] (default: 5)")
    parser.add_argument("text", nargs="+", help="text with one or several [MASK]")
    args = parser.parse_args()
    filler = fill_mask.load(args.model)
    for text in args.text:
        masks = fill_mask.predict(filler, text, args.top_k)
        for number, guesses in enumerate(masks, start=1):
            print(f"{text}  ({number} of {len(masks)})" if len(masks) > 1 else text)
            width = max(len(guess.piece) for guess in guesses)
            for guess in guesses:
                print(f"  {guess.score:7.4f}  {guess.piece:{width}}  {guess.sequence}")


if __name__ == "__main__":
    command.run(main)
