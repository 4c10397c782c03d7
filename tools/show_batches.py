"""Prints rows of training batches to look at, and each global batch's SHA-256.

python -m tools.show_batches --config configs/bert.py:medium --config.data.dir=CORPUS --steps 0:2 [--hosts N] [--json]
"""

import itertools
import json

import numpy as np

from bert_tpu.core import command, hashing
from bert_tpu.corpus import store
from bert_tpu.data import packing
from bert_tpu.pretrain import pretraining
from bert_tpu.tokenizer import vocab


def rows_of(batch, count):
    """The first `count` rows as plain lists."""
    return [{name: values[r].tolist() for name, values in batch.items()} for r in range(count)]


def decoded(row, pieces):
    """A row as text: each masked place shows what was put there and, in brackets, what was there."""
    truth = {p: i for p, i in zip(row["masked_positions"], row["masked_ids"], strict=True) if i}
    words = []
    for place in range(sum(row["attention_mask"])):
        shown = pieces[row["input_ids"][place]]
        words.append(f"{shown}({pieces[truth[place]]})" if place in truth else shown)
    label = "B is random" if row["next_sentence_label"] else "B follows A"
    return f"{label}; {len(words)} tokens, {len(truth)} to predict\n    {' '.join(words)}"


def shown(batch, count, pieces):
    """The first `count` rows as text; of a packed row each example."""
    if "example_starts" not in batch:
        return [decoded(row, pieces) for row in rows_of(batch, count)]
    alone = packing.unpack({name: values[:count] for name, values in batch.items()})
    return [decoded(row, pieces) for row in rows_of(alone, len(alone["input_ids"]))]


def span(text):
    """`A:B` as a pair of steps; `A` alone is A:A+1."""
    first, _, last = text.partition(":")
    try:
        first = int(first)
        last = int(last) if last else first + 1
    except ValueError:
        raise command.UserError(f"--steps {text!r} is no range: write 0:3 for steps 0, 1 and 2") from None
    if not 0 <= first < last:
        raise command.UserError(f"--steps {text!r} holds no step: write 0:3 for steps 0, 1 and 2")
    return first, last


def batches(cfg, first, last, hosts):
    """(step, length, global batch) of some steps, put together from what `hosts` hosts would each read."""
    from bert_tpu.data import corpus_batches

    with cfg.unlocked():
        cfg.eval.num_batches = 0  # nothing is evaluated here
    lock, spec = pretraining.open_corpus(cfg), pretraining.make_batch_spec(cfg)
    if last > spec.num_steps:
        raise command.UserError(f"the run has {spec.num_steps:,} steps: ask for a range up to there")
    streams = [
        corpus_batches.train(
            corpus_batches.load(lock, "train", **spec.row_counts(), process_index=i, process_count=hosts), spec, first
        )
        for i in range(hosts)
    ]
    for step, parts in enumerate(itertools.islice(zip(*streams, strict=True), last - first), first):
        seq_len = parts[0][0]
        yield step, seq_len, {name: np.concatenate([part[name] for _, part in parts]) for name in parts[0][1]}


def main():
    """Prints the steps asked for."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2])
    parser.add_argument("--steps", default="0:1", help="first step : one past the last")
    parser.add_argument("--hosts", type=int, default=1, help="how many hosts to read as")
    parser.add_argument("--rows", type=int, default=4, help="rows to print; the hash is over all")
    parser.add_argument("--json", action="store_true", help="one JSON object a step")
    args = pretraining.parse(parser)
    if args.hosts < 1 or args.rows < 0:
        raise command.UserError("--hosts is at least 1 and --rows at least 0")
    command.quiet_tensorflow()

    cfg = args.config
    pretraining.job(cfg)  # says what is wrong with its keys
    pieces = vocab.load(store.read(cfg.data.dir).directory).pieces if cfg.data.dir else ()
    for step, seq_len, batch in batches(cfg, *span(args.steps), args.hosts):
        count, digest = min(args.rows, len(batch["input_ids"])), hashing.batch_sha256(batch)
        if args.json:
            told = {"step": step, "seq_len": seq_len, "sha256": digest, "rows": rows_of(batch, count)}
            print(json.dumps(told))
            continue
        print(f"step {step}  length {seq_len}  sha256 {digest}")
        for number, text in enumerate(shown(batch, count, pieces)):
            print(f"  {'example' if 'example_starts' in batch else 'row'} {number}: {text}")


if __name__ == "__main__":
    command.run(main)
