"""Compiles the training step with XLA:TPU on a machine without a TPU."""

from collections.abc import Iterable, Iterator
import concurrent.futures
import contextlib
import importlib.metadata
import math
import os
import pathlib
import shutil
import sys
import tempfile
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from bert_tpu.core import command, disk_cache, joined, progress
from bert_tpu.distributed import compiler_options
from bert_tpu.distributed import mesh as meshes
from bert_tpu.hardware import chips, device_memory
from bert_tpu.planning import cost
from bert_tpu.training import jobs, train_step


class Memory(NamedTuple):
    """Bytes of HBM of one device."""

    params: int
    opt: int
    rest: int  # the other arguments and results: batch, step, sums, a teacher
    temporaries: int  # activations, gradients, copies
    program: int  # machine code

    @property
    def total(self) -> int:
        """The sum of all fields."""
        return sum(self)


class Program(NamedTuple):
    """The compiled step of one sequence length. memory, cost, flops and text are None if it does not fit in HBM."""

    seconds: float  # time of the compilation
    used_bytes: int  # HBM of a device that the step needs
    limit_bytes: int  # HBM of a device that it may use
    memory: Memory | None
    cost: cost.Cost | None
    flops: float | None  # of one device, as the compiler counts them
    text: str | None  # optimized HLO

    @property
    def fits(self) -> bool:
        """True if the step fits in HBM."""
        return self.memory is not None


def use_cpu_only() -> None:
    """Makes JAX run on the CPU alone, and libtpu compile without looking for a pod. Call it before JAX finds devices.

    Raises UserError if libtpu is not installed.
    """
    command.require("compiling for TPUs (on Linux, x86_64)", "libtpu", extra="plan")
    # Without the first, libtpu waits for a metadata server; without the second, for another process that compiles.
    os.environ.update({"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"})
    # A flag for CPUs that libtpu does not know would end the process without a message.
    os.environ.pop("XLA_FLAGS", None)
    jax.config.update("jax_platforms", "cpu")
    # JAX cannot load from its cache what it has compiled for absent devices, and would warn.
    jax.config.update("jax_enable_compilation_cache", False)


def make_mesh(topology: chips.Slice) -> Mesh:
    """The mesh of the devices of a TPU slice. Raises UserError if libtpu does not know the slice."""
    from jax.experimental import topologies  # loads libtpu, which nothing else needs

    # With megacore, both cores of a chip are one device, as a Cloud TPU VM presents them.
    options = {"chip_config_name": "megacore"} if topology.generation in ("v4", "v5p") else {}
    try:
        description = topologies.get_topology_desc(platform="tpu", topology_name=topology.compilers_name, **options)
    except Exception as fault:  # jaxlib raises exceptions of several types
        reason = " ".join(str(fault).split())[:200]
        known = ", ".join(chips.NAMES)
        raise command.UserError(
            f"the compiler knows no topology {topology.name} ({reason}): try one of {known}"
        ) from fault
    return meshes.make(description.devices)


@contextlib.contextmanager
def hide_stderr() -> Iterator[None]:
    """Hides the output of C++ on file descriptor 2 during the block; prints it if an exception leaves the block.

    libtpu complains about missing host names on every machine except TPU VMs. Python's own sys.stderr is not hidden.
    """
    sys.stderr.flush()
    before, visible = sys.stderr, os.dup(2)
    with tempfile.TemporaryFile() as hidden, open(visible, "w", buffering=1) as sys.stderr:
        os.dup2(hidden.fileno(), 2)
        try:
            yield
        except (command.UserError, KeyboardInterrupt):
            raise
        except BaseException:
            hidden.seek(0)
            sys.stderr.write(hidden.read().decode(errors="replace"))
            raise
        finally:
            os.dup2(visible, 2)
            sys.stderr = before


def compile_all(
    job: jobs.Job, mesh: Mesh, lens: Iterable[int], title: str, answers: disk_cache.DiskCache = disk_cache.DISABLED
) -> dict[int, Program]:
    """The Program of each sequence length, compiled in parallel, with the elapsed time on stderr.

    job: the training job
    mesh: the devices to compile for
    lens: sequence lengths
    title: the text for the line of progress
    answers: earlier answers of the compiler

    Ctrl-C ends the process with exit code 130.
    """
    with tempfile.TemporaryDirectory() as dumps, concurrent.futures.ThreadPoolExecutor() as pool:
        futures = {pool.submit(compile_step, job, mesh, n, answers, dumps): n for n in lens}
        try:
            _wait(futures, title)
        except KeyboardInterrupt:  # XLA ignores it, and would run on for minutes
            for _ in range(100):  # its threads write to the folder until the exit
                shutil.rmtree(dumps, ignore_errors=True)
                if not os.path.exists(dumps):
                    break
            os._exit(130)
        return {n: future.result() for future, n in futures.items()}


def _wait(futures: dict[concurrent.futures.Future, int], title: str) -> None:
    """Waits for all futures (future -> length), and prints the elapsed time."""
    terminal, begun, printed_s = progress.Terminal(), time.monotonic(), 0.0
    waiting = set(futures)
    terminal.say(f"compiling {title} for lengths {', '.join(map(str, futures.values()))} ...")
    while waiting:
        done, waiting = concurrent.futures.wait(waiting, 1, concurrent.futures.FIRST_COMPLETED)
        passed_s = time.monotonic() - begun
        for future in done:
            future.result()  # a fault ends the wait at once
            terminal.say(f"  length {futures[future]}: compiled after {passed_s:.0f} s")
        if waiting:
            terminal.live(f"  {passed_s:.0f} s")
            if not terminal.is_live and passed_s - printed_s >= 15:
                printed_s = passed_s
                terminal.say(f"  {passed_s:.0f} s ...")
    terminal.close()


def compile_step(
    job: jobs.Job,
    mesh: Mesh,
    seq_len: int,
    answers: disk_cache.DiskCache = disk_cache.DISABLED,
    dumps: str | None = None,
) -> Program:
    """The training step, `train_step.jit_step`, compiled for one length. It may need too much HBM.

    job: the training job
    mesh: the devices to compile for
    seq_len: tokens of a row
    answers: earlier answers of the compiler; a new answer is added
    dumps: a folder for the compiler's files
    """
    state = job.state_shapes
    batch = joined.abstract(job.shapes[seq_len], jnp.int32)
    lowered, begun = train_step.jit_step(job, mesh, seq_len).lower(state, batch, *job.fixed_shapes), time.monotonic()
    question = _question(lowered, mesh, compiler_options.find(mesh, job.exchange))
    if earlier := answers.get(question):
        return _program(earlier)
    answer = _ask(lowered, state, mesh, dumps)
    answer["seconds"] = time.monotonic() - begun
    answers.put(question, answer)
    return _program(answer)


def _question(lowered: jax.stages.Lowered, mesh: Mesh, options: dict[str, Any]) -> str:
    """All that decides the answer: the compiler's version and options, the chips and their places, and the program."""
    versions = [importlib.metadata.version(name) for name in ("jaxlib", "libtpu")]
    places = [(device.device_kind, *device.coords, device.core_on_chip) for device in mesh.devices.flat]
    return "\n".join(map(str, (versions, options, places, lowered.as_text())))


def _ask(lowered: jax.stages.Lowered, state: jobs.State, mesh: Mesh, dumps: str | None) -> dict[str, Any]:
    """Compiles a program; returns the fields of Program as plain data, without `seconds` and `cost`."""
    with tempfile.TemporaryDirectory(dir=dumps) as dump:
        try:
            options: dict[str, str | bool] = {"xla_dump_to": dump, "xla_dump_hlo_as_text": True}
            compiled = lowered.compile(compiler_options=options)
        except jax.errors.JaxRuntimeError as fault:
            used, limit = device_memory.needed_and_available(str(fault))
            if used is None:
                raise
            return {"used_bytes": used, "limit_bytes": limit, "memory": None, "flops": None, "text": None}
        text = _text(compiled, dump)
    memory = _memory(compiled, state)
    chip = next(chip for chip in chips.CHIPS.values() if chip.kind == mesh.devices.flat[0].device_kind)
    limit = round(chip.usable_gib * chips.GIB / chip.devices)
    flops = (compiled.cost_analysis() or {})["flops"]
    used = memory.total
    return {"used_bytes": used, "limit_bytes": limit, "memory": list(memory), "flops": flops, "text": text}


def _program(answer: dict[str, Any]) -> Program:
    memory, text = answer["memory"], answer["text"]
    return Program(**answer | {"memory": memory and Memory(*memory), "cost": text and cost.program_cost(text)})


def _text(compiled: jax.stages.Compiled, dump: str) -> str | None:
    """The optimized HLO text, with the figures that the compiler adds while it generates code."""
    try:
        return compiled.as_text()
    except jax.errors.JaxRuntimeError:
        # jaxlib cannot read back a gather on v6e's SparseCore, an async-update of three operands. The file that libtpu
        # writes has the same text.
        (path,) = pathlib.Path(dump).glob("*jit_step*.after_codegen.txt")
        return path.read_text()


def _memory(compiled: jax.stages.Compiled, state: jobs.State) -> Memory:
    """Parameters and optimizer as the program shards them, and the compiler's figures for the rest."""
    shardings = compiled.input_shardings[0][0]

    def nbytes(x: jax.ShapeDtypeStruct, sharding: jax.sharding.Sharding) -> int:
        return x.dtype.itemsize * math.prod(sharding.shard_shape(x.shape))

    pairs = (state.params, shardings.params), (state.opt, shardings.opt)
    params, opt = (sum(jax.tree.leaves(jax.tree.map(nbytes, *pair))) for pair in pairs)
    analysis: Any = compiled.memory_analysis()
    resident = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    rest = resident - params - opt
    return Memory(params, opt, rest, analysis.temp_size_in_bytes, analysis.generated_code_size_in_bytes)
