"""Speeds of data, preparation and training step on this machine, each beside a peer in the same run.

python -m tools.bench [--text GLOB] [--only data prepare step]

Without --text the documentation of the installed packages is used. Ours and the peer's turns alternate, so that a
busy machine slows both; the ratio is the figure to quote.
"""

import importlib.metadata
import itertools
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time

import numpy as np

from bert_tpu import pretrain
from configs import bert

ROUNDS = 7


def alternate(ours, peer, rounds=ROUNDS):
    """Median units/s of two functions that return how many units they did, turn by turn."""
    rates = ([], [])
    for turn, (function, rate) in itertools.product(range(rounds + 1), zip((ours, peer), rates, strict=True)):
        begun = time.perf_counter()
        units = function()
        if turn:  # the first turn warms up
            rate.append(units / (time.perf_counter() - begun))
    return tuple(map(statistics.median, rates))


def step():
    """Training sequences/s at 2/128, batch 32 x 128: ours, and transformers' under torch.compile with bf16 autocast."""
    cfg = bert.get_config("micro")
    cfg.update(batch_size=32, num_steps=1000)
    cfg.model.dtype = "float32"
    batch = random_batch(cfg)
    return alternate(our_step(cfg, batch), torch_step(cfg, batch))


def random_batch(cfg):
    """Full rows of random ids in the shapes of training at 128."""
    rng = np.random.default_rng(0)
    shapes = pretrain.make_recipe(cfg).shapes(128)
    batch = {name: rng.integers(0, 2, shape).astype(np.int32) for name, shape in shapes.items()}
    batch["attention_mask"][:] = 1
    for name in ("input_ids", "masked_ids"):
        batch[name] = rng.integers(1, cfg.model.vocab_size, shapes[name]).astype(np.int32)
    batch["masked_positions"] = np.argsort(rng.random(shapes["input_ids"]))[:, : shapes["masked_ids"][1]].astype(np.int32)
    return batch


def our_step(cfg, batch, steps=4):
    """Function that takes some steps of the training program and returns the sequences seen."""
    import jax

    from bert_tpu import mesh, train

    job, on = pretrain.job(cfg), mesh.make(jax.devices())
    state = jax.jit(lambda: train.new_state(job), out_shardings=mesh.replicated(on))()
    run, placed = train.jit_step(job, on), mesh.put(batch, on)

    def turn():
        nonlocal state
        for _ in range(steps):
            state, sums = run(state, placed)
        jax.block_until_ready(sums)
        return steps * cfg.batch_size

    return turn


def torch_step(cfg, batch, steps=4):
    """The same of transformers' BertForPreTraining: its all-position MLM loss, AdamW, dropout 0.1."""
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
            with torch.autocast("cpu", torch.bfloat16):
                loss = compiled(**inputs).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return steps * cfg.batch_size

    return turn
