"""XLA:TPU on a machine without a TPU: the step that trains, compiled for chips that are not there."""

import concurrent.futures
import contextlib
import importlib.metadata
import os
import pathlib
import shutil
import sys
import tempfile
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp

from bert_tpu.core import command, disk_cache, progress
from bert_tpu.distributed import mesh
from bert_tpu.hardware import chips, device_memory
from bert_tpu.planning import cost
from bert_tpu.training import train_step


class Memory(NamedTuple):
    """Bytes of HBM of one device."""

    params: int
    opt: int
    rest: int  # of the arguments and results: batch, step, sums
    temporaries: int  # activations, gradients, copies
    program: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self)


class Program(NamedTuple):
    """The step of one sequence length as compiled for a device; without `memory` and the rest where it does not fit."""

    seconds: float  # that the compiler took
    used_bytes: int  # HBM it needs
    limit_bytes: int  # HBM it may use
    memory: Memory | None
    cost: cost.Cost | None
    flops: float | None
    text: str | None  # optimized HLO

    @property
    def fits(self) -> bool:
        """Whether the compiler found room for it."""
        return self.memory is not None


def use_cpu_only():
    """To be called before JAX looks for devices: it then runs on the CPU alone, and libtpu asks nobody for a pod.

    Raises UserError where libtpu is not installed.
    """
    command.require("compiling for TPUs (on Linux, x86_64)", "libtpu", extra="plan")
    # Without the first it waits for a metadata server, without the second for whoever else compiles on this machine.
    os.environ.update({"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"})
    jax.config.update("jax_platforms", "cpu")


def make_mesh(where):
    """The mesh of a chips.Slice's devices. Raises UserError if libtpu knows no such slice."""
    from jax.experimental import topologies  # loads libtpu, which nothing else needs

    # With megacore, both cores of a chip are one device, as a Cloud TPU VM presents them.
    options = {"chip_config_name": "megacore"} if where.generation in ("v4", "v5p") else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=where.name, **options)
    except Exception as fault:  # jaxlib raises what it likes
        reason = " ".join(str(fault).split())[:200]
        known = ", ".join(chips.NAMES)
        raise command.UserError(
            f"the compiler knows no topology {where.name} ({reason}): try one of {known}"
        ) from fault
    return mesh.make(found.devices)


@contextlib.contextmanager
def hide_stderr():
    """While it lasts, what C++ writes on file descriptor 2 goes to a file, which is shown if an exception leaves.

    libtpu complains about missing host names on every machine that is no TPU VM. Python's own sys.stderr still shows.
    """
    sys.stderr.flush()
    before, shown = sys.stderr, os.dup(2)
    with tempfile.TemporaryFile() as kept, open(shown, "w", buffering=1) as sys.stderr:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except (command.UserError, KeyboardInterrupt):
            raise
        except BaseException:
            kept.seek(0)
            sys.stderr.write(kept.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(shown, 2)
            sys.stderr = before


def compile_all(job, on, lens, what, answers=disk_cache.DISABLED) -> dict[int, Program]:
    """The Program of each length, built side by side; says on stderr how long it has been at it.

    job: train.Job. on: mesh. what: words for the line of progress. answers: of the compiler, given before. Ctrl-C
    meanwhile ends the process with 130.
    """
    with tempfile.TemporaryDirectory() as dumps, concurrent.futures.ThreadPoolExecutor() as pool:
        futures = {pool.submit(compile_step, job, on, n, answers, dumps): n for n in lens}
        try:
            _wait(futures, what)
        except KeyboardInterrupt:  # XLA hears of none, and whoever waits for it waits for minutes
            for _ in range(100):  # its threads write on until the exit
                shutil.rmtree(dumps, ignore_errors=True)
                if not os.path.exists(dumps):
                    break
            os._exit(130)
        return {n: future.result() for future, n in futures.items()}


def _wait(futures, what):
    """Returns once all of futures, future -> length, are done; says meanwhile how long that takes."""
    terminal, begun, said_s = progress.Terminal(), time.monotonic(), 0.0
    waiting = set(futures)
    terminal.say(f"compiling {what} for lengths {', '.join(map(str, futures.values()))} ...")
    while waiting:
        done, waiting = concurrent.futures.wait(waiting, 1, concurrent.futures.FIRST_COMPLETED)
        passed_s = time.monotonic() - begun
        for future in done:
            future.result()  # a fault ends the wait at once
            terminal.say(f"  length {futures[future]}: compiled after {passed_s:.0f} s")
        if waiting:
            terminal.live(f"  {passed_s:.0f} s")
            if not terminal.is_live and passed_s - said_s >= 15:
                said_s = passed_s
                terminal.say(f"  {passed_s:.0f} s ...")
    terminal.close()


def compile_step(job, on, seq_len, answers=disk_cache.DISABLED, dumps=None) -> Program:
    """The step that trains, `train.jit_step(job, on)`, compiled for one length. Running out of HBM is an answer.

    answers: where what the compiler said of the same program before is found, and kept. dumps: a folder for its files.
    """
    state = job.state_shapes
    batch = {name: jax.ShapeDtypeStruct(shape, jnp.int32) for name, shape in job.shapes[seq_len].items()}
    lowered, begun = train_step.jit_step(job, on).lower(state, batch), time.monotonic()
    question = _question(lowered, on)
    if found := answers.get(question):
        return _program(found)
    answer = _ask(lowered, state, on, dumps)
    answer["seconds"] = time.monotonic() - begun
    answers.put(question, answer)
    return _program(answer)


def _question(lowered, on):
    """All that decides the answer: the program, the chips and how they are wired, and who compiles."""
    versions = [importlib.metadata.version(name) for name in ("jaxlib", "libtpu")]
    places = [(device.device_kind, *device.coords, device.core_on_chip) for device in on.devices.flat]
    return "\n".join(map(str, (versions, places, lowered.as_text())))


def _ask(lowered, state, on, dumps):
    """What the compiler says of a program, as plain data."""
    with tempfile.TemporaryDirectory(dir=dumps) as dump:
        try:
            options = {"xla_dump_to": dump, "xla_dump_hlo_as_text": True}
            compiled = lowered.compile(compiler_options=options)
        except jax.errors.JaxRuntimeError as fault:
            used, limit = device_memory.needed_and_available(str(fault))
            if used is None:
                raise
            return {"used_bytes": used, "limit_bytes": limit, "memory": None, "flops": None, "text": None}
        text = _text(compiled, dump)
    memory = _memory(compiled, state)
    chip = next(chip for chip in chips.CHIPS.values() if chip.kind == on.devices.flat[0].device_kind)
    limit = round(chip.usable_gib * chips.GIB / chip.devices)
    flops = compiled.cost_analysis()["flops"]
    used = memory.total
    return {"used_bytes": used, "limit_bytes": limit, "memory": list(memory), "flops": flops, "text": text}


def _program(answer):
    memory, text = answer["memory"], answer["text"]
    return Program(**answer | {"memory": memory and Memory(*memory), "cost": text and cost.program_cost(text)})


def _text(compiled, dump):
    """The optimized HLO text with the compiler's figures, which it notes while it generates code."""
    try:
        return compiled.as_text()
    except jax.errors.JaxRuntimeError:
        # jaxlib cannot read back a gather on v6e's SparseCore, an async-update of three operands. What libtpu writes
        # by itself is the same text.
        (path,) = pathlib.Path(dump).glob("*jit_step*.after_codegen.txt")
        return path.read_text()


def _memory(compiled, state):
    """Parameters and optimizer as the program shards them, and what the compiler says of the rest."""
    placed = compiled.input_shardings[0][0]  # None for what the program never reads, as `waits` by one form alone

    def size(x, where):
        return x.dtype.itemsize * _size(where.shard_shape(x.shape))

    pairs = (state.params, placed.params), (state.opt, placed.opt)
    params, opt = (sum(jax.tree.leaves(jax.tree.map(size, *pair))) for pair in pairs)
    said = compiled.memory_analysis()
    resident = said.argument_size_in_bytes + said.output_size_in_bytes - said.alias_size_in_bytes
    rest = resident - params - opt
    return Memory(params, opt, rest, said.temp_size_in_bytes, said.generated_code_size_in_bytes)


def _size(shape):
    size = 1
    for length in shape:
        size *= length
    return size
