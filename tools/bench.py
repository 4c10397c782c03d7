"""Speeds of data, preparation and training step on this machine, each beside a peer in the same run.

python -m tools.bench [--text GLOB] [--only data prepare step]

Without --text the documentation of the installed packages is used. Ours and the peer's turns alternate, so that a
busy machine slows both; the ratio is the figure to quote.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from bert_tpu import command, corpus, prepare, pretrain, sources, vocab, wordpiece
from configs import bert
from tools import collect_docs

ROUNDS = 7


def alternate(ours, peer, rounds=ROUNDS):
    """Median units/s of two functions that return how many units they did, and the median ratio of their turns."""
    rates = []
    for turn in range(rounds + 1):
        pair = []
        for function in (ours, peer):
            begun = time.perf_counter()
            units = function()
            pair.append(units / (time.perf_counter() - begun))
        if turn:  # the first turn warms up
            rates.append(pair)
    return *map(statistics.median, zip(*rates, strict=True)), statistics.median(a / b for a, b in rates)


def data(corpus_dir, tokenizer_dir):
    """Sequences/s at 128: ours with pairs and masks, and transformers' collator, which only masks."""
    import tensorflow as tf
    import transformers

    from bert_tpu import data as pipeline

    cfg = bert.get_config()
    cfg.data.dir = corpus_dir
    rules = pretrain.make_recipe(cfg)
    share = pipeline.load(corpus.read(corpus_dir), "train", batch_size=cfg.batch_size)
    batches = pipeline.stream(share, pipeline.cut(share, 128), rules, 128, 0, tf.int64.max)
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

    return alternate(ours, peer)


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
        return sum(info.tokens for split in corpus.read(out).splits.values() for info in split)

    def peer():
        return sum(len(one.ids) for one in tokenizer.encode_batch(lines, add_special_tokens=False))

    return alternate(ours, peer, rounds=3)


def step():
    """The peer's name, and training sequences/s at 2/128, batch 32 x 128: ours, transformers' under torch.compile."""
    import torch

    cfg = bert.get_config("micro")
    cfg.update(batch_size=32, num_steps=1000)
    cfg.model.dtype = "float32"
    batch, dtype = random_batch(cfg), faster_dtype(torch)
    peer = f"HF + torch.compile, {str(dtype).removeprefix('torch.')}"
    return peer, *alternate(our_step(cfg, batch), torch_step(cfg, batch, dtype))


def faster_dtype(torch):
    """The type in which PyTorch multiplies faster here; without a unit for bfloat16 that is float32, a hundredfold."""

    def seconds(dtype):
        x = torch.ones(256, 256, dtype=dtype)
        x @ x
        begun = time.perf_counter()
        x @ x
        return time.perf_counter() - begun

    return min(torch.float32, torch.bfloat16, key=seconds)


def random_batch(cfg):
    """Full rows of random ids in the shapes of training at 128."""
    rng = np.random.default_rng(0)
    shapes = pretrain.make_recipe(cfg).shapes(128)
    batch = {name: rng.integers(0, 2, shape).astype(np.int32) for name, shape in shapes.items()}
    batch["attention_mask"][:] = 1
    for name in ("input_ids", "masked_ids"):
        batch[name] = rng.integers(1, cfg.model.vocab_size, shapes[name]).astype(np.int32)
    places = np.argsort(rng.random(shapes["input_ids"]))[:, : shapes["masked_ids"][1]]
    batch["masked_positions"] = places.astype(np.int32)
    return batch


def our_step(cfg, batch, steps=4):
    """Function that takes some steps of the training program and returns the sequences seen."""
    import jax

    from bert_tpu import memory, mesh, train

    memory.keep()
    job, on = pretrain.job(cfg), mesh.make(jax.devices())
    state = jax.jit(lambda: train.new_state(job), out_shardings=train.shardings(job, on))()
    run, placed = train.jit_step(job, on), mesh.put(batch, on)

    def turn():
        nonlocal state
        for _ in range(steps):
            state, sums = run(state, placed)
        jax.block_until_ready(sums)
        return steps * cfg.batch_size

    return turn


def torch_step(cfg, batch, dtype, steps=4):
    """The same of transformers' BertForPreTraining, in `dtype`: its all-position MLM loss, AdamW, dropout 0.1."""
    import torch
    import transformers

    m = cfg.model
    model = transformers.BertForPreTraining(
        transformers.BertConfig(
            vocab_size=m.vocab_size, hidden_size=m.hidden_size, num_hidden_layers=m.num_layers,
            num_attention_heads=m.num_heads, intermediate_size=m.intermediate_size,
        )
    ).train()  # fmt: skip
    labels = np.full(batch["input_ids"].shape, -100)
    np.put_along_axis(labels, batch["masked_positions"], batch["masked_ids"], axis=1)
    inputs = {name: torch.tensor(batch[name]).long() for name in ("input_ids", "token_type_ids", "attention_mask")}
    inputs |= {"labels": torch.tensor(labels), "next_sentence_label": torch.tensor(batch["next_sentence_label"]).long()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    compiled = torch.compile(model)

    def turn():
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
                loss = compiled(**inputs).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return steps * cfg.batch_size

    return turn


def main():
    """Prints one line for each part."""
    parser = command.Parser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", help="plain text to prepare (default: documentation of the installed packages)")
    parser.add_argument("--only", nargs="+", choices=("data", "prepare", "step"), default=("data", "prepare", "step"))
    args = parser.parse_args()
    pretrain.quiet_tensorflow()
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
            show("step 2/128, 32 x 128, sequences/s", *step())


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
    print(f"{what:<36} {ours_rate:>12,.0f}   {peer:<26} {peer_rate:>12,.0f}   ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    command.run(main)
