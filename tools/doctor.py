"""Checks whether this machine is fit for a training: its TPU chips or GPUs, driver, packages, speed and one step.

bert-tpu doctor

It takes about a minute and ends with exit code 1 if a check fails. A pod has a doctor of its own, launch/tpu_pod.sh.
"""

from collections.abc import Iterator, Sequence
import glob
import importlib.metadata
import importlib.util
import math
import os
import shutil
import subprocess
import time
from typing import NamedTuple

from bert_tpu.core import command

with command.imports():
    import jax
    import jax.numpy as jnp

    from bert_tpu.configs import bert
    from bert_tpu.distributed import mesh
    from bert_tpu.hardware import energy
    from bert_tpu.pretrain import pretraining
    from bert_tpu.tools import _bench_step
    from bert_tpu.training import jobs, train_step

OLDEST_DRIVER = {"jax_cuda13_plugin": 580, "jax_cuda12_plugin": 525}  # https://docs.jax.dev/en/latest/installation.html
WIDE = 8192  # rows and columns of the product that is timed
LEAST_SHARE = 0.3  # of the documented peak, for that product
STEPS, SEQ_LEN = 3, 128
TOLERANCE = 2e-3  # nats between an accelerator, which may round float32 products, and the CPU
DISK_GB = 5


class Row(NamedTuple):
    """The result of a check: what was found, and how to fix it if that is a fault."""

    name: str
    found: str
    fix: str = ""


def main() -> None:
    """Prints a line for each check."""
    command.Parser(description=__doc__).parse_args()
    failed = 0
    for check in (software, devices, driver, figures, speed, step, disk):
        for row in check():
            failed += bool(row.fix)
            print(
                f"{'FAIL' if row.fix else 'ok':<6}{row.name:<12}{row.found}{': ' if row.fix else ''}{row.fix}",
                flush=True,
            )
    if failed:
        raise command.UserError(f"{failed} of the checks above failed: each of those lines says how to fix it")


def software() -> Iterator[Row]:
    """Checks versions, and that there is one TensorFlow: two distributions would overwrite each other's files."""
    found = (dist.metadata["Name"] for dist in importlib.metadata.distributions())
    names = {name.lower().replace("_", "-") for name in found if name}
    tensorflows = sorted(names & {"tensorflow", "tensorflow-cpu", "tensorflow-tpu", "tf-nightly"})
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "jaxlib", *tensorflows))
    fix = "uninstall all of them and install tensorflow-cpu alone" if len(tensorflows) > 1 else ""
    yield Row("packages", versions, fix)


def devices() -> Iterator[Row]:
    """Checks that JAX uses the accelerator of the machine, if it has one."""
    found = jax.devices()
    text, fix = f"{len(found)} x {found[0].device_kind}", ""
    if found[0].platform == "cpu":
        if glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*"):
            fix = "JAX does not use the TPU of this machine; pip install 'bert_tpu[tpu]', and end other users of it"
        elif _smi():
            fix = (
                "JAX does not use the GPU of this machine; pip install 'bert_tpu[cuda13]', or jax[cuda12] for a driver "
                "before 580"
            )
    yield Row("devices", text, fix)


def driver() -> Iterator[Row]:
    """Checks the version of NVIDIA's driver, and prints the memory and power limit of each GPU."""
    for line in _smi():
        version, memory, limit = (word.strip() for word in line.split(","))
        plugin = next((name for name in OLDEST_DRIVER if importlib.util.find_spec(name)), None)
        oldest = OLDEST_DRIVER[plugin] if plugin else 0
        is_old = version.partition(".")[0].isdecimal() and int(version.partition(".")[0]) < oldest
        fix = f"install driver {oldest} or later, which {plugin} needs, or jax[cuda12]" if is_old else ""
        yield Row("driver", f"{version}, {memory}, power limit {limit}", fix)


def _smi() -> list[str]:
    """Returns a line "driver, memory, power limit" for each GPU; none where there is no driver."""
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=driver_version,memory.total,power.limit", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if line.count(",") == 2] if done.returncode == 0 else []


def figures() -> Iterator[Row]:
    """Prints the documented peak and watts of the devices, which a run's metrics and report use."""
    kind = jax.devices()[0].device_kind
    peak, watts = mesh.PEAK_FLOPS.get(kind), energy.WATTS.get(kind)
    texts = [
        f"peak {peak / 1e12:,.0f} TFLOP/s in bfloat16" if peak else "no documented peak, so metrics have no mfu",
        f"{watts[0]:g} .. {watts[1]:g} W{' a thread' if kind == energy.CPU else ''}"
        if watts
        else "no documented watts, so reports have no energy",
    ]
    yield Row("figures", "; ".join(texts))


def speed() -> Iterator[Row]:
    """Times a large product on the first device, next to the documented peak."""
    device = jax.devices()[0]
    if device.platform == "cpu":
        return
    x = jax.device_put(jnp.ones((WIDE, WIDE), jnp.bfloat16), device)
    product = jax.jit(jnp.dot)
    product(x, x).block_until_ready()
    start, times = time.perf_counter(), 20
    for _ in range(times):
        y = product(x, x)
    y.block_until_ready()
    rate = times * 2 * WIDE**3 / (time.perf_counter() - start)
    peak = mesh.PEAK_FLOPS.get(device.device_kind)
    fix = ""
    if peak and rate < LEAST_SHARE * peak:
        fix = "another program may use the device (nvidia-smi lists them), or it is too hot or limited in power"
    yield Row("product", f"{rate / 1e12:,.0f} TFLOP/s" + (f", {rate / peak:.0%} of the peak" if peak else ""), fix)


def step() -> Iterator[Row]:
    """Compares the losses of a small model's first steps on all devices with those on the CPU."""
    rows = math.lcm(16, len(jax.devices()))
    here, on_cpu = (losses(where, rows) for where in (jax.devices(), jax.devices("cpu")[:1]))
    difference = max(abs(a - b) for a, b in zip(here, on_cpu, strict=True))
    fix = ""
    if not difference < TOLERANCE:
        fix = "the devices compute something else than the CPU; update the driver and jax"
    yield Row("step", f"loss {here[0]:.3f} to {here[-1]:.3f}, {difference:.0e} nats from the CPU's", fix)


def losses(where: Sequence[jax.Device], rows: int) -> list[float]:
    """Returns the losses of the first steps of `micro` in float32 with a batch of that many random rows."""
    cfg = bert.get_config("micro")
    cfg.update(batch_size=rows, num_steps=STEPS)
    cfg.model.update(dtype="float32", vocab_size=1000)
    cfg.optim.update(warmup_share=0.0, warmup_steps=0, learning_rate=1e-3)
    job, all_devices = pretraining.make_job(cfg), mesh.make(where)
    batch = mesh.put_batch(_bench_step.random_batch(cfg), all_devices)
    state = jax.jit(lambda: jobs.new_state(job), out_shardings=train_step.shardings(job, all_devices))()
    run, totals = train_step.bound_step(job, all_devices, SEQ_LEN), []
    for _ in range(STEPS):
        state, sums = run(state, batch)
        totals.append(dict(jax.device_get(sums)))
    return [sum(float(s[name][0] / s[name][1]) for name in s if name.endswith("_loss")) for s in totals]


def disk() -> Iterator[Row]:
    """Checks the space for checkpoints in this folder."""
    free_gb = shutil.disk_usage(os.getcwd()).free / 1e9
    fix = f"free {DISK_GB} GB, or put the workdir elsewhere" if free_gb < DISK_GB else ""
    yield Row("disk", f"{free_gb:,.0f} GB free here", fix)


if __name__ == "__main__":
    command.run(main)
