"""Prints rows of training batches as text, and each global batch's SHA-256.

bert-tpu show-batches --config bert:medium --config.data.dir=CORPUS --steps 0:2 [--hosts N] [--json]
"""

from collections.abc import Iterator, Sequence
import itertools
import json
from typing import Any

from bert_tpu.core import command

with command.imports():
    import ml_collections
    import numpy as np

    from bert_tpu.core import hashing
    from bert_tpu.corpus import store
    from bert_tpu.data import packing
    from bert_tpu.pretrain import pretraining
    from bert_tpu.tokenizer import vocab

Batch = dict[str, np.ndarray]
LABELS = {0: "B follows A", 1: "B is random", -1: "one segment"}


def rows_of(batch: Batch, count: int) -> list[dict[str, Any]]:
    """Returns the first `count` rows of a batch as plain lists."""
    return [{name: values[r].tolist() for name, values in batch.items()} for r in range(count)]


def decoded(row: dict[str, Any], pieces: Sequence[str]) -> str:
    """Returns a row as text. A masked place has the piece that replaced the original, and the original in brackets."""
    truth = {p: i for p, i in zip(row["masked_positions"], row["masked_ids"], strict=True) if i}
    words = []
    for place in range(sum(row["attention_mask"])):
        piece = pieces[row["input_ids"][place]]
        words.append(f"{piece}({pieces[truth[place]]})" if place in truth else piece)
    label = LABELS[row["next_sentence_label"]]
    return f"{label}; {len(words)} tokens, {len(truth)} to predict\n    {' '.join(words)}"


def texts(batch: Batch, count: int, pieces: Sequence[str]) -> list[str]:
    """Returns the first `count` rows of a batch as text; for packed rows a text for each example."""
    if "example_starts" not in batch:
        return [decoded(row, pieces) for row in rows_of(batch, count)]
    alone = packing.unpack({name: values[:count] for name, values in batch.items()})
    return [decoded(row, pieces) for row in rows_of(alone, len(alone["input_ids"]))]


def span(text: str) -> tuple[int, int]:
    """Returns `A:B` as a pair of steps; `A` alone is A:A+1."""
    first_word, _, last_word = text.partition(":")
    try:
        first = int(first_word)
        last = int(last_word) if last_word else first + 1
    except ValueError:
        raise command.UserError(f"--steps {text!r} is not a range: write 0:3 for steps 0, 1 and 2") from None
    if not 0 <= first < last:
        raise command.UserError(f"--steps {text!r} has no step: write 0:3 for steps 0, 1 and 2")
    return first, last


def batches(cfg: ml_collections.ConfigDict, first: int, last: int, hosts: int) -> Iterator[tuple[int, int, Batch]]:
    """Yields (step, sequence length, global batch) of the steps from `first` to before `last`.

    cfg: of the run.
    hosts: number of hosts whose parts are joined into the global batch.
    """
    from bert_tpu.data import corpus_batches, host_share

    with cfg.unlocked():
        cfg.eval.num_batches = 0  # this command evaluates nothing
    lock, spec = pretraining.open_corpus(cfg), pretraining.make_batch_spec(cfg)
    if last > spec.num_steps:
        raise command.UserError(f"the run has {spec.num_steps:,} steps: give a range up to there")
    streams = [
        corpus_batches.train(
            host_share.load(lock, "train", **spec.row_counts(), process_index=i, process_count=hosts), spec, first
        )
        for i in range(hosts)
    ]
    for step, parts in enumerate(itertools.islice(zip(*streams, strict=True), last - first), first):
        seq_len = parts[0][0]
        yield step, seq_len, {name: np.concatenate([part[name] for _, part in parts]) for name in parts[0][1]}


def main() -> None:
    """Prints the batches of --steps."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--steps", default="0:1", help="A:B for the steps A to B - 1, or A for one step (default: 0:1)")
    parser.add_argument("--hosts", type=int, default=1, help="number of hosts to read as (default: 1)")
    parser.add_argument(
        "--rows", type=int, default=4, help="rows to print of each batch (default: 4); the hash is over all rows"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for each step")
    args = pretraining.parse(parser)
    if args.hosts < 1 or args.rows < 0:
        raise command.UserError("give --hosts of at least 1 and --rows of at least 0")
    command.quiet_tensorflow()

    cfg = args.config
    pretraining.make_job(cfg)  # raises UserError for a wrong key
    pieces = vocab.load(store.read(cfg.data.dir).directory).pieces if cfg.data.dir else ()
    for step, seq_len, batch in batches(cfg, *span(args.steps), args.hosts):
        count, digest = min(args.rows, len(batch["input_ids"])), hashing.batch_sha256(batch)
        if args.json:
            line = {"step": step, "seq_len": seq_len, "sha256": digest, "rows": rows_of(batch, count)}
            print(json.dumps(line))
            continue
        print(f"step {step}  length {seq_len}  sha256 {digest}")
        for number, text in enumerate(texts(batch, count, pieces)):
            print(f"  {'example' if 'example_starts' in batch else 'row'} {number}: {text}")


if __name__ == "__main__":
    command.run(main)
