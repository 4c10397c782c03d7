"""Speeds of data, preparation and training step on this machine, each beside a peer in the same run; and of a save.

python -m tools.bench [--text GLOB] [--only data prepare step tuning save]

Without --text the documentation of the installed packages is used. Ours and the peer's turns alternate, so that a
busy machine slows both; the ratio is the figure to quote.
"""

import os
import platform
import subprocess
import sys
import tempfile

import numpy as np

from bert_tpu.core import command
from bert_tpu.corpus import prepare, store
from bert_tpu.pretrain import pretraining
from bert_tpu.readers import sources
from bert_tpu.tokenizer import vocab, wordpiece
from configs import bert
from tools import bench_save, bench_step, collect_docs

PARTS = ("data", "prepare", "step", "tuning", "save")


def data(corpus_dir, tokenizer_dir):
    """Sequences/s at 128: ours with pairs and masks, and transformers' collator, which only masks."""
    import tensorflow as tf
    import transformers

    from bert_tpu.data import corpus_batches as pipeline

    cfg = bert.get_config()
    cfg.data.dir = corpus_dir
    spec = pretraining.make_batch_spec(cfg)
    share = pipeline.load(store.read(corpus_dir), "train", batch_size=cfg.batch_size)
    batches = pipeline.stream(share, pipeline.epoch_table(share, spec, 128), spec, 128, 0, tf.int64.max)
    tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(tokenizer_dir)
    collate = transformers.DataCollatorForLanguageModeling(tokenizer, return_tensors="np")
    rng = np.random.default_rng(0)
    rows = [{"input_ids": row} for row in rng.integers(104, len(share.pieces), (cfg.batch_size, 128)).tolist()]

    def ours(count=100):
        for _ in range(count):
            next(batches)
        return count * cfg.batch_size

    def peer(count=4):
        for _ in range(count):
            collate(rows)
        return count * cfg.batch_size

    return bench_step.alternate(ours, peer)


def preparation(text, tokenizer_dir, scratch):
    """Tokens/s from text to a finished corpus, start-up included: ours, and tokenizers' encode_batch alone."""
    lines = [line for d in sources.documents(sources.find([text]), sources.Counts()) for line in d.plain().splitlines()]
    tokenizer = vocab.tokenizer(vocab.load(tokenizer_dir))
    program = [sys.executable, "-m", "tools.prepare_corpus", "--input", text, "--tokenizer", tokenizer_dir, "--out"]
    turn = 0

    def ours():
        nonlocal turn
        turn += 1
        out = f"{scratch}/corpus-{turn}"
        subprocess.run([*program, out], check=True, capture_output=True)
        return sum(info.tokens for split in store.read(out).splits.values() for info in split)

    def peer():
        return sum(len(one.ids) for one in tokenizer.encode_batch(lines, add_special_tokens=False))

    return bench_step.alternate(ours, peer, rounds=3)


def main():
    """Prints one line for each part."""
    parser = command.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", help="plain text to prepare (default: documentation of the installed packages)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    command.quiet_tensorflow()
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, {platform.machine()}, load {load:.1f}; medians, ratio by pairs of turns")
    with tempfile.TemporaryDirectory() as scratch:
        if set(args.only) & {"data", "prepare"}:
            text, tokenizer = inputs(args.text, scratch)
        if "prepare" in args.only:
            show("prepare_corpus, tokens/s", "tokenizers alone", *preparation(text, tokenizer, scratch))
        if "data" in args.only:
            made = f"{scratch}/for-data"
            prepare.prepare([text], tokenizer, made)
            show("data at 128, sequences/s", "HF collator, no NSP", *data(made, tokenizer))
        if "step" in args.only:
            show_step("step 2/128, 32 x 128", *bench_step.pretrain())
        if "tuning" in args.only:
            show_step("fine-tuning 6/384, 32 x 128", *bench_step.tuning(np.full(32, 128)))
            show_step("  32 of 10 to 100 tokens", *bench_step.tuning(np.linspace(10, 100, 32).astype(int)))
        if "save" in args.only:
            print(bench_save.line(f"{scratch}/checkpoints"), flush=True)


def inputs(text, scratch):
    """A text, and a tokenizer of 8,192 pieces learnt from it."""
    if not text:
        text = f"{scratch}/docs.txt"
        collect_docs.collect("requirements.txt", text)
    tokenizer = f"{scratch}/tokenizer"
    found = sources.find([text])

    def lines():
        for document in sources.documents(found, sources.Counts()):
            yield from document.plain().splitlines()

    vocab.save(wordpiece.train(lines, 8192), tokenizer)
    return text, tokenizer


def show(what, peer, ours_rate, peer_rate, ratio):
    """One line of the table."""
    ours_rate, peer_rate = (f"{rate:,.{0 if rate >= 1000 else 1}f}" for rate in (ours_rate, peer_rate))
    print(f"{what:<50} {ours_rate:>11}   {peer:<28} {peer_rate:>9}   ratio {ratio:.2f}", flush=True)


def show_step(what, dtype, *figures):
    """The same of a training step in this type."""
    show(f"{what}, sequences/s, {dtype}", *figures)


if __name__ == "__main__":
    command.run(main)
