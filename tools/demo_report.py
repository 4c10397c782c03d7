"""What a finished demo shows: held-out losses beside the unigram entropy, and masks filled by PyTorch.

python -m tools.demo_report --workdir W --corpus DIR --model DIR
"""

import pathlib

import ml_collections

from bert_tpu.core import command, jsonl
from bert_tpu.corpus import store
from bert_tpu.pretrain import pretraining
from bert_tpu.training import workdir as workdirs

# Two that documentation answers, two for prose.
SENTENCES = (
    "The function returns a [MASK] of the input array.",
    "Raises an error if the [MASK] is not valid.",
    "He was born in [MASK] and died in London.",
    "She looked at [MASK] and said nothing.",
)


def evaluations(workdir):
    """The last held-out line of each length in metrics.jsonl."""
    metrics = jsonl.read(pathlib.Path(workdir) / "metrics.jsonl")
    return {line["seq_len"]: line for line in metrics if line["kind"] == "eval"}


def commoner(workdir, corpus_dir):
    """Share of the commoner NSP label in the held-out batches, by length: what a constant answer scores.

    Over one half, because a chunk of one sentence always gets a random B, and short rows have many of those.
    """
    from bert_tpu.data import corpus_batches

    cfg = ml_collections.ConfigDict(workdirs.read_config(workdir))
    share = corpus_batches.load(store.read(corpus_dir), "heldout", batch_size=cfg.batch_size)
    labels = {}
    for seq_len, batch in corpus_batches.heldout(share, pretraining.make_batch_spec(cfg), cfg.eval.num_batches):
        labels.setdefault(seq_len, []).extend(batch["next_sentence_label"])
    return {n: max(sum(given), len(given) - sum(given)) / len(given) for n, given in labels.items()}


def fill(directory, sentences, top_k=5):
    """Rows (sentence, guesses) by transformers' pipeline on PyTorch."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    pipeline = transformers.pipeline("fill-mask", directory, top_k=top_k, device="cpu")
    for sentence in sentences:
        yield sentence, ", ".join(f"{guess['token_str']} {guess['score']:.2f}" for guess in pipeline(sentence))


def main():
    """Prints both tables."""
    parser = command.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True, help="of the pretraining")
    parser.add_argument("--corpus", required=True, help="that it read")
    parser.add_argument("--model", required=True, help="exported directory")
    args = parser.parse_args()
    if not (pathlib.Path(args.model) / "config.json").exists():
        raise command.UserError(f"{args.model} holds no model: make it with tools.export_pytorch")
    command.quiet_tensorflow()
    lock = store.read(args.corpus)
    print(f"unigram entropy of the training text: {lock.unigram_entropy:.3f} nats")
    constant = commoner(args.workdir, args.corpus)
    for seq_len, line in sorted(evaluations(args.workdir).items()):
        print(f"held-out text at {seq_len} tokens, step {line['step']:,}")
        print(f"  MLM loss      {line['mlm_loss']:.3f} nats, {line['mlm_accuracy']:.1%} of the masked pieces right")
        print(f"  NSP accuracy  {line['nsp_accuracy']:.1%}; always the commoner label {constant[seq_len]:.1%}")
    print(f"\nfill-mask, {args.model} in PyTorch")
    rows = list(fill(args.model, SENTENCES))
    width = max(len(sentence) for sentence, _ in rows)
    for sentence, guesses in rows:
        print(f"  {sentence:<{width}}  {guesses}")


if __name__ == "__main__":
    command.run(main)
