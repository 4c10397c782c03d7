"""Measures batches, corpus preparation and training steps on this machine, each next to a peer; and a checkpoint.

bert-tpu bench [--text GLOB] [--only data prepare step tuning save]

Without --text the documentation of the installed packages is the text. Our turns and the peer's alternate, so that a
busy machine slows both. The ratio is the figure to quote.
"""

from collections.abc import Iterator
import os
import platform
import subprocess
import sys
import tempfile

from bert_tpu.core import command

with command.imports():
    import numpy as np

    from bert_tpu.configs import bert
    from bert_tpu.corpus import prepare, store
    from bert_tpu.pretrain import pretraining
    from bert_tpu.readers import sources
    from bert_tpu.tokenizer import vocab, wordpiece
    from bert_tpu.tools import _bench_save, _bench_step, collect_docs

PARTS = ("data", "prepare", "step", "tuning", "save")
VOCAB_SIZE = 8192


def data(corpus_dir: str, tokenizer_dir: str) -> _bench_step.Rates:
    """Sequences/s at 128 tokens: our batches with pairs and masks, and transformers' collator, which only masks."""
    import tensorflow as tf
    import transformers

    from bert_tpu.data import corpus_batches, host_share

    cfg = bert.get_config()
    cfg.data.dir = corpus_dir
    spec = pretraining.make_batch_spec(cfg)
    share = host_share.load(store.read(corpus_dir), "train", batch_size=cfg.batch_size)
    batches = corpus_batches.stream(share, corpus_batches.epoch_table(share, spec, 128), spec, 128, 0, tf.int64.max)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tokenizer_dir)
    collate = transformers.DataCollatorForLanguageModeling(tokenizer, return_tensors="np")
    rng = np.random.default_rng(0)
    rows = [{"input_ids": row} for row in rng.integers(104, len(share.pieces), (cfg.batch_size, 128)).tolist()]

    # While the peer's turn is timed, tf.data fills its buffer of up to 26 batches, which must not matter here.
    def ours(count: int = 1000) -> int:
        for _ in range(count):
            next(batches)
        return count * cfg.batch_size

    def peer(count: int = 4) -> int:
        for _ in range(count):
            collate(rows)
        return count * cfg.batch_size

    return _bench_step.alternate(ours, peer)


def preparation(text: str, tokenizer_dir: str, scratch: str) -> _bench_step.Rates:
    """Tokens/s from text to a finished corpus, start-up included; the peer is tokenizers' encode_batch alone.

    Raises UserError if bert-tpu prepare refuses the text.
    """
    lines = [line for d in sources.documents(sources.find([text]), sources.Counts()) for line in d.plain().splitlines()]
    tokenizer = vocab.tokenizer(vocab.load(tokenizer_dir))
    program = [
        sys.executable,
        "-m",
        "bert_tpu.tools.prepare_corpus",
        "--input",
        text,
        "--tokenizer",
        tokenizer_dir,
        "--out",
    ]
    turn = 0

    def ours() -> int:
        nonlocal turn
        turn += 1
        out = f"{scratch}/corpus-{turn}"
        done = subprocess.run([*program, out], capture_output=True, text=True)
        if done.returncode:
            raise command.UserError(f"the text cannot be prepared: {done.stderr.strip().rpartition('error: ')[2]}")
        return sum(info.tokens for split in store.read(out).splits.values() for info in split)

    def peer() -> int:
        return sum(len(encoding.ids) for encoding in tokenizer.encode_batch(lines, add_special_tokens=False))

    return _bench_step.alternate(ours, peer, rounds=3)


def main() -> None:
    """Prints one line for each part."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--text", help="text files to prepare (default: documentation of the installed packages)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure (default: all)")
    args = parser.parse_args()
    if set(args.only) & {"data", "step", "tuning"}:
        command.require("the peer", "torch", "transformers", extra="onnx")
    command.quiet_tensorflow()
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, {platform.machine()}, load {load:.1f}; medians, ratio by pairs of turns")
    with tempfile.TemporaryDirectory() as scratch:
        if set(args.only) & {"data", "prepare"}:
            text, tokenizer = inputs(args.text, scratch)
        if "prepare" in args.only:
            show("prepare_corpus, tokens/s", "tokenizers alone", preparation(text, tokenizer, scratch))
        if "data" in args.only:
            corpus = f"{scratch}/for-data"
            prepare.prepare([text], tokenizer, corpus)
            show("data at 128, sequences/s", "HF collator, no NSP", data(corpus, tokenizer))
        if "step" in args.only:
            show_step("step 2/128, 32 x 128", _bench_step.pretrain())
        if "tuning" in args.only:
            show_step("fine-tuning 6/384, 32 x 128", _bench_step.tuning(np.full(32, 128)))
            show_step("  32 of 10 to 100 tokens", _bench_step.tuning(np.linspace(10, 100, 32).astype(int)))
        if "save" in args.only:
            print(_bench_save.line(f"{scratch}/checkpoints"), flush=True)


def inputs(text: str | None, scratch: str) -> tuple[str, str]:
    """Returns a text and a tokenizer trained on it. Collects a text in `scratch` if there is none."""
    if not text:
        text = f"{scratch}/docs.txt"
        collect_docs.collect("requirements.txt", text)
    tokenizer = f"{scratch}/tokenizer"
    files = sources.find([text])

    def lines() -> Iterator[str]:
        for document in sources.documents(files, sources.Counts()):
            yield from document.plain().splitlines()

    vocab.save(wordpiece.train(lines, VOCAB_SIZE), tokenizer)
    return text, tokenizer


def show(title: str, peer: str, rates: _bench_step.Rates) -> None:
    """Prints one line of the table."""
    ours, theirs = (f"{rate:,.{0 if rate >= 1000 else 1}f}" for rate in (rates.ours, rates.peer))
    print(f"{title:<50} {ours:>11}   {peer:<28} {theirs:>9}   ratio {rates.ratio:.2f}", flush=True)


def show_step(title: str, step: _bench_step.Step) -> None:
    """Prints the line of a training step."""
    show(f"{title}, sequences/s, {step.dtype}", f"HF + torch.compile, {step.peer_dtype}", step.rates)


if __name__ == "__main__":
    command.run(main)
