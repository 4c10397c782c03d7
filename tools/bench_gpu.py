"""Times the pretraining step on a GPU next to transformers' compiled one, and compares 200 losses with a CPU's.

bert-tpu bench-gpu --config bert:medium --config.data.dir=CORPUS --write BATCHES.npz
bert-tpu bench-gpu --config bert:medium --batches BATCHES.npz [--only step losses]

The first command, on any machine, writes the rows. The second, on the machine with the GPU, needs no TensorFlow and no
corpus. Both programs train in bfloat16 with dropout, compute the MLM loss at the masked places only, and take the batch
at which they are fastest. The peer is transformers' BertForPreTraining in PyTorch, with torch.compile, autocast and a
fused AdamW. Each program has a process of its own, one after the other. The losses are those of 200 steps of 32 rows,
which the CPU also computes: with a large model that takes minutes, so `--config bert:micro --only losses` may do.
"""

from collections.abc import Callable
import concurrent.futures
import multiprocessing
import statistics
import time
from typing import Any, NamedTuple

from bert_tpu.core import command

with command.imports():
    import jax
    import ml_collections
    import numpy as np

    from bert_tpu.distributed import mesh
    from bert_tpu.pretrain import pretraining
    from bert_tpu.tools import _bench_step
    from bert_tpu.training import jobs, train_step

PARTS = ("step", "losses")
ROWS, STEPS = 32, 200  # of the comparison of losses
LONG_ROWS = 2048  # rows of the long length in a file; the short one has those of the comparison
LARGEST_FILE = 40e6  # bytes
SIZES = (32, 64, 128, 256, 512, 1024, 2048)  # batches to try
TURNS = 5

Rows = dict[str, np.ndarray]  # a batch's arrays, all rows of the file


class Rate(NamedTuple):
    """The fastest batch of a program: examples/s, rows of a step, and ms of a step."""

    examples_per_s: float
    rows: int
    step_ms: float


class Losses(NamedTuple):
    """The loss of each step, by what computed it."""

    gpu: list[float]
    cpu: list[float]
    cpu_float32: list[float]

    @property
    def difference(self) -> float:
        """The mean difference between GPU and CPU, both in bfloat16, in nats."""
        return statistics.mean(abs(a - b) for a, b in zip(self.gpu, self.cpu, strict=True))

    @property
    def rounding(self) -> float:
        """The mean difference that bfloat16 makes on the CPU, in nats."""
        return statistics.mean(abs(a - b) for a, b in zip(self.cpu, self.cpu_float32, strict=True))

    @property
    def agree(self) -> bool:
        """True if GPU and CPU differ by at most twice the rounding, since both are rounded."""
        return self.difference <= 2 * self.rounding


def main() -> None:
    """Writes the rows, or prints the measurements."""
    parser = command.Parser(description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", metavar="FILE", help="write the corpus' first rows to this file")
    action.add_argument("--batches", metavar="FILE", help="measure with the rows in this file")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure (default: both)")
    args = pretraining.parse(parser)
    if args.write:
        command.quiet_tensorflow()
        write(args.config, args.write)
        return
    rows = read(args.config, args.batches)
    command.require("the peer", "torch", "transformers", extra="onnx")
    if "step" in args.only:
        for seq_len, of_length in rows.items():
            ours = _in_process(our_rate, args.config, of_length)
            theirs = _in_process(their_rate, args.config, of_length)
            for name, rate in (("bert_tpu", ours), ("transformers", theirs)):
                figures = f"{rate.examples_per_s:10,.0f} examples/s  {rate.step_ms:8.2f} ms a step of {rate.rows} rows"
                print(f"{seq_len} tokens  {name:<12}  {figures}")
            print(f"{seq_len} tokens  ratio {ours.examples_per_s / theirs.examples_per_s:.2f}", flush=True)
    if "losses" in args.only:
        losses = _in_process(compare_losses, args.config, next(iter(rows.values())))
        print(
            f"{STEPS} losses of {ROWS} rows, from {losses.gpu[0]:.4f} to {losses.gpu[-1]:.4f}: on average GPU and CPU "
            f"differ by {losses.difference:.1e} nats, bfloat16 and float32 on the CPU by {losses.rounding:.1e}"
        )
        if not losses.agree:
            raise command.UserError(
                "the GPU's losses are farther from the CPU's than bfloat16 rounds: check the driver and jax's version"
            )


def _in_process(function: Callable[..., Any], *args: Any) -> Any:
    """Returns `function(*args)`, called in a new process, whose end frees the GPU's memory."""
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args).result()


def write(cfg: ml_collections.ConfigDict, path: str) -> None:
    """Writes the first rows of the corpus cfg.data.dir, of each length."""
    from bert_tpu.corpus import store
    from bert_tpu.data import corpus_batches, host_share

    cfg.batch_size = ROWS
    spec = pretraining.make_batch_spec(cfg)
    if spec.first_nsp_step:
        raise command.UserError("the peer trains NSP in every step: give --config.data.nsp_share=1")
    share = host_share.load(store.read(cfg.data.dir), "train", batch_size=ROWS)
    arrays: dict[str, Any] = {"vocab_size": len(share.pieces)}
    for seq_len in spec.seq_lens:
        table = corpus_batches.epoch_table(share, spec, seq_len)
        count = STEPS if seq_len == spec.seq_lens[0] else LONG_ROWS // ROWS
        batches = [dict(batch) for batch in corpus_batches.stream(share, table, spec, seq_len, 0, count)]
        arrays |= {f"{seq_len}/{name}": np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)
        if file.tell() > LARGEST_FILE:
            raise command.UserError(f"{path} has {file.tell() / 1e6:.0f} MB: give shorter --config.data.seq_lens")
        print(f"{path}: {file.tell() / 1e6:.1f} MB, rows of {' and '.join(map(str, spec.seq_lens))} tokens")


def read(cfg: ml_collections.ConfigDict, path: str) -> dict[int, Rows]:
    """Returns {sequence length: rows} of a file, and sets the vocabulary size of cfg. UserError for other files."""
    try:
        with np.load(path) as file:
            arrays = dict(file)
        cfg.model.vocab_size = int(arrays.pop("vocab_size"))
        rows: dict[int, Rows] = {}
        for key, array in arrays.items():
            seq_len, name = key.split("/")
            rows.setdefault(int(seq_len), {})[name] = array.astype(np.int32)
    except (OSError, ValueError, KeyError) as error:
        raise command.UserError(f"cannot read batches from {path}: write them with --write ({error})") from error
    if set(rows) != set(cfg.data.seq_lens):
        raise command.UserError(
            f"{path} has rows of {', '.join(map(str, rows))} tokens, the config of {cfg.data.seq_lens}: write it again "
            "with this config"
        )
    return rows


def _first(rows: Rows, count: int) -> Rows:
    """Returns `count` rows, from the beginning again where there are fewer."""
    return {name: np.resize(array, (count, *array.shape[1:])) for name, array in rows.items()}


def _fastest(make: Callable[[int], Callable[[], int]], sizes: tuple[int, ...], is_shortage: Callable) -> Rate:
    """Times the turns of `make(rows)`, each of several steps, for each size until the memory is too small."""
    best = None
    for size in sizes:
        try:
            turn = make(size)
            turn()
            times = []
            for _ in range(TURNS):
                start = time.perf_counter()
                examples = turn()
                times.append(time.perf_counter() - start)
        except Exception as error:
            if best and is_shortage(error):
                break
            raise
        seconds = statistics.median(times)
        rate = Rate(examples / seconds, size, 1e3 * seconds * size / examples)
        best = max(best, rate) if best else rate
    assert best
    return best


def our_rate(cfg: ml_collections.ConfigDict, rows: Rows, sizes: tuple[int, ...] = SIZES) -> Rate:
    """Returns the rate of our step on all of JAX's devices."""

    def make(size: int) -> Callable[[], int]:
        cfg.update(batch_size=size, accumulate=1, accumulate_long=0)
        return _bench_step.our_step(pretraining.make_job(cfg), _first(rows, size), size)

    return _fastest(make, sizes, lambda error: "RESOURCE_EXHAUSTED" in str(error))


def their_rate(
    cfg: ml_collections.ConfigDict, rows: Rows, sizes: tuple[int, ...] = SIZES, *, compiled: bool = True
) -> Rate:
    """Returns the rate of transformers' step on the GPU; without a GPU on the CPU. compiled: torch.compile"""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")

    def make(size: int, steps: int = 4) -> Callable[[], int]:
        loss_of, model = their_loss(cfg, device)
        batch = {name: torch.tensor(array).long().to(device) for name, array in _first(rows, size).items()}
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device == "cuda")
        run = torch.compile(loss_of) if compiled else loss_of

        def turn() -> int:
            for _ in range(steps):
                with torch.autocast(device, torch.bfloat16):
                    loss = run(**batch)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            loss.item()  # waits for the GPU
            return steps * size

        return turn

    return _fastest(make, sizes, lambda error: isinstance(error, torch.OutOfMemoryError))


def their_loss(cfg: ml_collections.ConfigDict, device: str) -> tuple[Callable[..., Any], Any]:
    """Returns transformers' loss, a function of a batch's tensors, and the model, in training mode."""
    import torch
    import transformers

    model: Any = transformers.BertForPreTraining(transformers.BertConfig(**_bench_step.their_sizes(cfg.model)))
    model.to(device).train()
    cross_entropy = torch.nn.functional.cross_entropy

    def loss(
        input_ids: Any, token_type_ids: Any, attention_mask: Any, masked_positions: Any, masked_ids: Any,
        next_sentence_label: Any,
    ) -> Any:  # fmt: skip
        encoded = model.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        hidden = encoded.last_hidden_state
        places = masked_positions[..., None].expand(-1, -1, hidden.shape[-1])
        words, relation = model.cls(hidden.gather(1, places), encoded.pooler_output)
        # A slot that is not used holds id 0.
        mlm = cross_entropy(words.float().flatten(0, 1), masked_ids.flatten(), ignore_index=0)
        return mlm + cross_entropy(relation.float(), next_sentence_label)

    return loss, model


def compare_losses(cfg: ml_collections.ConfigDict, rows: Rows) -> Losses:
    """Returns the losses of the same STEPS steps on JAX's default device and on the CPU."""
    cfg.update(batch_size=ROWS, num_steps=STEPS)
    cfg.optim.update(warmup_share=0.0, warmup_steps=STEPS // 10, learning_rate=5e-4)
    places = (jax.devices()[0], "bfloat16"), (jax.devices("cpu")[0], "bfloat16"), (jax.devices("cpu")[0], "float32")
    return Losses(*(_losses(cfg, rows, device, dtype) for device, dtype in places))


def _losses(cfg: ml_collections.ConfigDict, rows: Rows, device: jax.Device, dtype: str) -> list[float]:
    cfg.model.dtype = dtype
    job, devices = pretraining.make_job(cfg), mesh.make([device])
    state = jax.jit(lambda: jobs.new_state(job), out_shardings=train_step.shardings(job, devices))()
    seq_len = rows["input_ids"].shape[1]
    run, losses = train_step.bound_step(job, devices, seq_len), []
    for step in range(STEPS):
        batch = {name: array[step * ROWS : (step + 1) * ROWS] for name, array in rows.items()}
        state, sums = run(state, mesh.put_batch(batch, devices))
        losses.append(dict(jax.device_get(sums)))
    return [sum(float(s[name][0] / s[name][1]) for name in s if name.endswith("_loss")) for s in losses]


if __name__ == "__main__":
    command.run(main)
