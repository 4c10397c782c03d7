"""Prints the results of a finished demo: losses next to the unigram entropy, and masks filled by PyTorch.

bert-tpu demo-report --workdir W --corpus DIR --model DIR
"""

from collections.abc import Iterable, Iterator
import importlib.util
import pathlib
from typing import Any

from bert_tpu.core import command

with command.imports():
    from bert_tpu.core import json_files, jsonl
    from bert_tpu.corpus import store
    from bert_tpu.inference import fill_mask
    from bert_tpu.monitoring import health

REASON_CHARS = 300  # of an error of transformers
# Of a line with kind "eval". An objective without NSP has no nsp_accuracy.
EVALUATION = {"kind": str, "seq_len": int, "step": int, "mlm_loss": float, "mlm_accuracy": float}

# Two from documentation, two from prose.
SENTENCES = (
    "The function returns a [MASK] of the input array.",
    "Raises an error if the [MASK] is not valid.",
    "He was born in [MASK] and died in London.",
    "She looked at [MASK] and said nothing.",
)


def evaluations(workdir: str) -> dict[int, dict[str, Any]]:
    """Returns the last evaluation line of each length in metrics.jsonl. Leaves out lines without a loss."""
    metrics = jsonl.read(pathlib.Path(workdir) / "metrics.jsonl")
    return {
        line["seq_len"]: line
        for line in metrics
        if line.get("kind") == "eval" and not json_files.misfit(line, EVALUATION)
    }


def fill(directory: str, sentences: Iterable[str], top_k: int = 5) -> Iterator[tuple[str, str]]:
    """Yields (sentence, its `top_k` guesses with probabilities) from transformers' pipeline on PyTorch.

    Raises UserError if transformers cannot read the directory.
    """
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        pipeline = transformers.pipeline("fill-mask", directory, top_k=top_k, device="cpu")
        for sentence in sentences:
            yield sentence, ", ".join(f"{guess['token_str']} {guess['score']:.2f}" for guess in pipeline(sentence))
    except Exception as error:  # damaged files make it fail in many ways
        reason = " ".join(str(error).split())[:REASON_CHARS] or type(error).__name__
        raise command.UserError(f"transformers does not read {directory} ({reason}): export it again") from None


def fill_in_jax(directory: str, sentences: Iterable[str], top_k: int = 5) -> Iterator[tuple[str, str]]:
    """Yields the same as `fill`, by our own code."""
    filler = fill_mask.load(directory)
    for sentence in sentences:
        (guesses,) = fill_mask.predict(filler, sentence, top_k)
        yield sentence, ", ".join(f"{guess.piece} {guess.score:.2f}" for guess in guesses)


def main() -> None:
    """Prints both tables."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--workdir", required=True, help="workdir of the pretraining")
    parser.add_argument("--corpus", required=True, help="corpus of the pretraining")
    parser.add_argument("--model", required=True, help="directory written by bert-tpu export")
    args = parser.parse_args()
    if not (pathlib.Path(args.model) / "config.json").exists():
        raise command.UserError(f"{args.model} has no model: write it with bert-tpu export")
    lock = store.read(args.corpus)
    print(f"unigram entropy of the training text: {lock.unigram_entropy:.3f} nats")
    facts = health.read(args.workdir)
    commoner = facts.commoner if facts else {}  # over one half: a chunk of one sentence always gets a random B
    for seq_len, line in sorted(evaluations(args.workdir).items()):
        print(f"held-out text at {seq_len} tokens, step {line['step']:,}")
        print(f"  MLM loss      {line['mlm_loss']:.3f} nats, {line['mlm_accuracy']:.1%} of the masked pieces right")
        constant = f"; always the commoner label {commoner[seq_len]:.1%}" if seq_len in commoner else ""
        if isinstance(line.get("nsp_accuracy"), (int, float)):
            print(f"  NSP accuracy  {line['nsp_accuracy']:.1%}{constant}")
    has_pytorch = all(importlib.util.find_spec(name) for name in ("torch", "transformers"))
    print(f"\nfill-mask, {args.model} in {'PyTorch' if has_pytorch else 'JAX, because PyTorch is not installed'}")
    rows = list((fill if has_pytorch else fill_in_jax)(args.model, SENTENCES))
    width = max(len(sentence) for sentence, _ in rows)
    for sentence, guesses in rows:
        print(f"  {sentence:<{width}}  {guesses}")


if __name__ == "__main__":
    command.run(main)
