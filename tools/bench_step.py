"""Training steps of ours and of transformers on this machine, in turns; for tools.bench."""

import contextlib
import functools
import multiprocessing
import statistics
import time

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from bert_tpu.core import command
from bert_tpu.data import length_buckets, task_batches, token_rows
from bert_tpu.distributed import mesh
from bert_tpu.finetune import finetuning, heads
from bert_tpu.hardware import host_memory
from bert_tpu.model import transformer
from bert_tpu.pretrain import pretraining
from bert_tpu.training import jobs, train_step
from configs import bert, glue

ROUNDS = 7
TYPES = ("bfloat16", "float32")


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


def pretrain():
    """(our type, peer's name, rates, ratio) of training at 2/128, sequences/s of 32 x 128, beside transformers'."""
    host_memory.keep_freed_memory()
    cfg = bert.get_config("micro")
    cfg.update(batch_size=32, num_steps=1000)
    cfg.model.dtype, theirs = faster_types()
    batch = random_batch(cfg)
    labels = np.full(batch["input_ids"].shape, -100)
    np.put_along_axis(labels, batch["masked_positions"], batch["masked_ids"], axis=1)
    with_labels = batch | {"labels": labels}  # the MLM loss of all positions, as transformers has it
    names = ("input_ids", "token_type_ids", "attention_mask", "labels", "next_sentence_label")
    inputs = {name: with_labels[name] for name in names}
    with apart(torch_step, "BertForPreTraining", their_sizes(cfg.model), inputs, theirs) as peer:
        return cfg.model.dtype, peer_name(theirs), *alternate(our_step(pretraining.job(cfg), batch, 32), peer)


def tuning(lengths):
    """The same of fine-tuning for two classes at 6/384, of a batch of these lengths, which transformers pads."""
    host_memory.keep_freed_memory()
    cfg = glue.get_config()
    cfg.num_steps = 1000
    cfg.model.dtype, theirs = faster_types()
    size = {"num_layers": 6, "hidden_size": 384, "num_heads": 12, "intermediate_size": 1536}
    section = bert.get_config("medium").model.to_dict() | cfg.model.to_dict() | size
    tuned = heads.Model(transformer.Bert(**section, parent=None), "classify", 2)
    starts, labels = np.cumsum([0, *lengths]), np.arange(len(lengths), dtype=np.int32) % 2
    ids = np.random.default_rng(0).integers(1, section["vocab_size"], starts[-1]).astype(np.uint16)
    rows = token_rows.Rows(ids, np.zeros_like(ids, np.uint8), starts, labels)
    fed = task_batches.TaskBatches(
        rows, seeds=cfg.seeds, batch_size=len(lengths), num_steps=1, seq_len=128, multiple=jax.device_count()
    )
    ((_, packed),) = fed.batches(0)
    ((_, padded),) = length_buckets.batches(rows, batch_size=len(lengths), seq_lens=(max(lengths),))
    job = finetuning.make_job(finetuning.Opened(cfg, None, tuned, None, fed))
    sizes = their_sizes(ml_collections.ConfigDict(section))
    with apart(torch_step, "BertForSequenceClassification", sizes, padded | {"labels": labels}, theirs) as peer:
        return cfg.model.dtype, peer_name(theirs), *alternate(our_step(job, packed, len(lengths)), peer, rounds=5)


@contextlib.contextmanager
def apart(make, *args):
    """A function that does what `make(*args)` returns in a process of its own, whose memory we do not tune."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(there, make, args), daemon=True)
    process.start()
    there.close()  # so that its end is ours to see

    def turn():
        here.send(True)
        try:
            return here.recv()
        except (EOFError, OSError):
            raise command.UserError("transformers' step failed; what it said is above") from None

    try:
        yield turn
    finally:
        with contextlib.suppress(OSError):
            here.send(False)
        process.join()


def _serve(pipe, make, args):
    turn = make(*args)
    while pipe.recv():
        pipe.send(turn())


def peer_name(dtype):
    """How the table calls transformers in this type."""
    return f"HF + torch.compile, {dtype}"


@functools.cache
def faster_types():
    """The types, "bfloat16" or "float32", in which JAX and PyTorch multiply matrices faster here.

    Without a unit for bfloat16, PyTorch takes a hundred times as long.
    """
    import torch

    multiply = jax.jit(lambda x: jnp.dot(x, x, preferred_element_type=jnp.float32))
    ours = {name: functools.partial(multiply, jnp.ones((512, 512), name)) for name in TYPES}
    ones = {name: torch.ones(512, 512, dtype=getattr(torch, name)) for name in TYPES}
    return _faster(ours), _faster({name: functools.partial(torch.matmul, x, x) for name, x in ones.items()})


def _faster(of_type):
    """The type whose function takes less time at its best; bfloat16 by a tenth at least.

    They take turns for a second: one after the other, each in ten milliseconds, another process once decided.
    """

    def seconds(function):
        begun = time.perf_counter()
        jax.block_until_ready(function())
        return time.perf_counter() - begun

    begun, turns = time.perf_counter(), []
    while len(turns) < 3 or time.perf_counter() - begun < 1:
        turns.append([seconds(of_type[name]) for name in TYPES])
    bfloat16, float32 = map(min, zip(*turns, strict=True))
    return "bfloat16" if bfloat16 < 0.9 * float32 else "float32"


def random_batch(cfg):
    """Full rows of random ids in the shapes of training at 128."""
    rng = np.random.default_rng(0)
    shapes = pretraining.make_batch_spec(cfg).shapes(128)
    batch = {name: rng.integers(0, 2, shape).astype(np.int32) for name, shape in shapes.items()}
    batch["attention_mask"][:] = 1
    for name in ("input_ids", "masked_ids"):
        batch[name] = rng.integers(1, cfg.model.vocab_size, shapes[name]).astype(np.int32)
    places = np.argsort(rng.random(shapes["input_ids"]))[:, : shapes["masked_ids"][1]]
    batch["masked_positions"] = places.astype(np.int32)
    return batch


def our_step(job, batch, examples, steps=4):
    """Function that takes some steps of the training program and returns the sequences seen."""
    on = mesh.make(jax.devices())
    state = jax.jit(lambda: jobs.new_state(job), out_shardings=train_step.shardings(job, on))()
    run, placed = train_step.jit_step(job, on), mesh.put_batch(batch, on)

    def turn():
        nonlocal state
        for _ in range(steps):
            state, sums = run(state, placed)
        jax.block_until_ready(sums)
        return steps * examples

    return turn


def their_sizes(section):
    """The same sizes as transformers' config names them."""
    return {
        "vocab_size": section.vocab_size, "hidden_size": section.hidden_size, "num_hidden_layers": section.num_layers,
        "num_attention_heads": section.num_heads, "intermediate_size": section.intermediate_size,
    }  # fmt: skip


def torch_step(name, sizes, inputs, dtype, steps=4):
    """The same of transformers' class `name`, under autocast if `dtype` is bfloat16: AdamW, dropout 0.1."""
    import torch
    import transformers

    model = getattr(transformers, name)(transformers.BertConfig(**sizes)).train()
    inputs = {name: torch.tensor(value).long() for name, value in inputs.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    compiled = torch.compile(model)

    def turn():
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = compiled(**inputs).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return steps * len(inputs["input_ids"])

    return turn
