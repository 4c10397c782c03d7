"""Measures our training steps and those of transformers on this machine, in turns, for bert-tpu bench."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from bert_tpu.configs import bert, glue
from bert_tpu.core import command
from bert_tpu.data import length_buckets, task_batches, token_rows
from bert_tpu.distributed import mesh
from bert_tpu.finetune import finetuning, heads
from bert_tpu.hardware import host_memory
from bert_tpu.model import transformer
from bert_tpu.pretrain import pretraining
from bert_tpu.training import jobs, train_step

ROUNDS = 7
TYPES = ("bfloat16", "float32")


class Rates(NamedTuple):
    """Median units/s of two programs, and the median ratio of their turns."""

    ours: float
    peer: float
    ratio: float


class Step(NamedTuple):
    """The rates of a training step, in sequences/s, and the number type of each program."""

    dtype: str
    peer_dtype: str
    rates: Rates


def alternate(ours: Callable[[], int], peer: Callable[[], int], rounds: int = ROUNDS) -> Rates:
    """Measures two functions in turns. Each returns the number of units that it processed."""
    rates = []
    for turn in range(rounds + 1):
        pair = []
        for function in (ours, peer):
            start = time.perf_counter()
            units = function()
            pair.append(units / (time.perf_counter() - start))
        if turn:  # the first turn warms up
            rates.append(pair)
    ours_median, peer_median = map(statistics.median, zip(*rates, strict=True))
    return Rates(ours_median, peer_median, statistics.median(a / b for a, b in rates))


def pretrain() -> Step:
    """Measures pretraining at 2/128 on 32 x 128 tokens, next to transformers."""
    host_memory.keep_freed_memory()
    cfg = bert.get_config("micro")
    cfg.update(batch_size=32, num_steps=1000)
    cfg.model.dtype, theirs = faster_types()
    batch = random_batch(cfg)
    labels = np.full(batch["input_ids"].shape, -100)
    np.put_along_axis(labels, batch["masked_positions"], batch["masked_ids"], axis=1)
    with_labels = batch | {"labels": labels}  # transformers computes the MLM loss at all positions
    names = ("input_ids", "token_type_ids", "attention_mask", "labels", "next_sentence_label")
    inputs = {name: with_labels[name] for name in names}
    with in_process(torch_step, "BertForPreTraining", their_sizes(cfg.model), inputs, theirs) as peer:
        return Step(cfg.model.dtype, theirs, alternate(our_step(pretraining.make_job(cfg), batch, 32), peer))


def tuning(lengths: np.ndarray) -> Step:
    """Measures fine-tuning for two classes at 6/384, next to transformers, which pads the batch.

    lengths: tokens of each example of the batch.
    """
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
    train_batches = task_batches.TaskBatches(
        rows, seeds=cfg.seeds, batch_size=len(lengths), num_steps=1, seq_len=128, multiple=jax.device_count()
    )
    ((_, packed),) = train_batches.batches(0)
    ((_, padded),) = length_buckets.batches(rows, batch_size=len(lengths), seq_lens=(max(lengths),))
    job = finetuning.make_job(cfg, tuned, train_batches)
    sizes = their_sizes(ml_collections.ConfigDict(section))
    labelled = padded | {"labels": labels}
    with in_process(torch_step, "BertForSequenceClassification", sizes, labelled, theirs) as peer:
        return Step(cfg.model.dtype, theirs, alternate(our_step(job, packed, len(lengths)), peer, rounds=5))


@contextlib.contextmanager
def in_process(make: Callable[..., Callable[[], int]], *args: Any) -> Iterator[Callable[[], int]]:
    """Gives a function that calls the function `make(*args)` in another process, whose memory is not tuned for us."""
    spawn = multiprocessing.get_context("spawn")
    pipe, childs_pipe = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(childs_pipe, make, args), daemon=True)
    process.start()
    childs_pipe.close()  # or the end of the child would not close the pipe

    def turn() -> int:
        pipe.send(True)
        try:
            return pipe.recv()
        except (EOFError, OSError):
            raise command.UserError("transformers' step failed; its error message is above") from None

    try:
        yield turn
    finally:
        with contextlib.suppress(OSError):
            pipe.send(False)
        process.join()


def _serve(
    pipe: multiprocessing.connection.Connection, make: Callable[..., Callable[[], int]], args: tuple[Any, ...]
) -> None:
    turn = make(*args)
    while pipe.recv():
        pipe.send(turn())


@functools.cache
def faster_types() -> tuple[str, str]:
    """The types, "bfloat16" or "float32", in which JAX and PyTorch multiply matrices faster on this machine.

    On a CPU without a unit for bfloat16, PyTorch takes a hundred times as long in bfloat16.
    """
    import torch

    multiply = jax.jit(lambda x: jnp.dot(x, x, preferred_element_type=jnp.float32))
    ours = {name: functools.partial(multiply, jnp.ones((512, 512), name)) for name in TYPES}
    ones = {name: torch.ones(512, 512, dtype=getattr(torch, name)) for name in TYPES}
    return _faster(ours), _faster({name: functools.partial(torch.matmul, x, x) for name, x in ones.items()})


def _faster(functions: Mapping[str, Callable[[], Any]]) -> str:
    """The type whose function has the shortest turn; bfloat16 only if it is shorter by a tenth at least.

    functions: type -> multiplication. They take turns for a second. Measured one after the other, for ten milliseconds
    each, another process on the machine once decided the result.
    """

    def seconds(function: Callable[[], Any]) -> float:
        start = time.perf_counter()
        jax.block_until_ready(function())
        return time.perf_counter() - start

    start = time.perf_counter()
    turns: list[list[float]] = []
    while len(turns) < 3 or time.perf_counter() - start < 1:
        turns.append([seconds(functions[name]) for name in TYPES])
    bfloat16, float32 = map(min, zip(*turns, strict=True))
    return "bfloat16" if bfloat16 < 0.9 * float32 else "float32"


def random_batch(cfg: ml_collections.ConfigDict) -> dict[str, np.ndarray]:
    """Full rows of random ids in the shapes of training at 128 tokens."""
    rng = np.random.default_rng(0)
    shapes = pretraining.make_batch_spec(cfg).shapes(128)
    batch = {name: rng.integers(0, 2, shape).astype(np.int32) for name, shape in shapes.items()}
    batch["attention_mask"][:] = 1
    for name in ("input_ids", "masked_ids"):
        batch[name] = rng.integers(1, cfg.model.vocab_size, shapes[name]).astype(np.int32)
    places = np.argsort(rng.random(shapes["input_ids"]))[:, : shapes["masked_ids"][1]]
    batch["masked_positions"] = places.astype(np.int32)
    return batch


def our_step(job: jobs.Job, batch: dict[str, np.ndarray], examples: int, steps: int = 4) -> Callable[[], int]:
    """Returns a function that runs `steps` steps of our training program and returns their number of examples.

    batch: the batch of each step, with `examples` examples.
    """
    devices = mesh.make(jax.devices())
    state = jax.jit(lambda: jobs.new_state(job), out_shardings=train_step.shardings(job, devices))()
    longest, placed = max(job.shapes), mesh.put_batch(batch, devices)
    run = train_step.bound_step(job, devices, longest)

    def turn() -> int:
        nonlocal state
        for _ in range(steps):
            state, sums = run(state, placed)
        jax.block_until_ready(sums)
        return steps * examples

    return turn


def their_sizes(section: ml_collections.ConfigDict) -> dict[str, Any]:
    """The sizes in a `model` section, under the names of transformers' config."""
    return {
        "vocab_size": section.vocab_size, "hidden_size": section.hidden_size, "num_hidden_layers": section.num_layers,
        "num_attention_heads": section.num_heads, "intermediate_size": section.intermediate_size,
    }  # fmt: skip


def torch_step(
    name: str, sizes: dict[str, Any], inputs: dict[str, np.ndarray], dtype: str, steps: int = 4
) -> Callable[[], int]:
    """Returns a function that trains transformers' class `name` for `steps` steps, with AdamW and dropout 0.1.

    sizes: of the model, as `their_sizes` returns them.
    inputs: the batch of each step.
    dtype: "bfloat16" for autocast, or "float32".
    """
    import torch
    import transformers

    model = getattr(transformers, name)(transformers.BertConfig(**sizes)).train()
    tensors = {key: torch.tensor(value).long() for key, value in inputs.items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    compiled = torch.compile(model)

    def turn() -> int:
        for _ in range(steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
                loss = compiled(**tensors).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return steps * len(inputs["input_ids"])

    return turn
