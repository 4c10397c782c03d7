"""The cost of one run of an optimized TPU program: executed cycles, instructions without a figure, and exchanges.

XLA:TPU notes `"estimated_cycles"` for most instructions. A plain sum over the text counts a loop's body once. This
module begins at ENTRY, counts a body as often as it runs, and counts the dearest branch of a conditional.
"""

import collections
from collections.abc import Iterable
import math
import re
from typing import NamedTuple

from bert_tpu.planning import hlo

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
# They name, pass on or wait for the result of another instruction. ConcatBitcast joins arrays that are adjacent anyway.
FREE = {
    "parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all", "partition-id", "replica-id",
    "custom-call:ConcatBitcast", "while", "call", "conditional",
}  # fmt: skip
NO_FIGURE = 2**63 - 1
# A fusion without a figure is named after the first of these that it contains.
SLOW = ("gather", "scatter", "sort", "rng-bit-generator", "dynamic-update-slice", "dynamic-slice", "reduce-window")


class Execution(NamedTuple):
    """An instruction of a computation, and how often a run of the program executes it."""

    instruction: hlo.Instruction
    computation: hlo.Computation
    runs: int


class Moment(NamedTuple):
    """A place in the order in which a device executes a program."""

    cycles: int  # that the device has executed before
    position: int  # of the instruction in that order


class Collective(NamedTuple):
    """One collective. If it is synchronous, one instruction begins and ends it."""

    kind: str
    nbytes: int  # of the whole buffer: a device's input to a reduction, or its result of a gather
    group: int  # devices that exchange with each other
    runs: int
    begin: Moment
    end: Moment


class Uncosted(NamedTuple):
    """Instructions of one kind without a figure."""

    runs: int
    nbytes: int  # of their results, in all runs


class Cost(NamedTuple):
    """One run of a program on one device: a core on v2 and v3, both cores of a chip (a megacore) on v4 and v5p."""

    cycles: int  # executed, by the instructions that have a figure
    text_cycles: int  # the plain sum over the text, for comparison
    uncosted: dict[str, Uncosted]  # kind -> instructions without a figure, most runs first
    collectives: list[Collective]
    loops: list[tuple[str, int]]  # (body, trips)
    names: collections.Counter[str]  # operation in the source -> cycles, summed over layers


def program_cost(text: str) -> Cost:
    """The cost of a program, from its optimized HLO text.

    Raises ValueError if the trips of a loop are unknown, and for a text that is cut or is not HLO.
    """
    try:
        return _cost(hlo.parse(text), text)
    except (LookupError, RecursionError, StopIteration) as error:
        raise ValueError(f"the text is damaged: {error!r:.80} is named and not there") from None


def _cost(module: hlo.Module, text: str) -> Cost:
    cycles, names, loops, collectives = 0, collections.Counter[str](), [], []
    uncosted: dict[str, Uncosted] = {}
    begins: dict[str, Moment] = {}  # key of an asynchronous collective -> its begin
    for position, (instruction, computation, runs) in enumerate(_executed(module, module.entry, 1)):
        figure, now = _figure(instruction.rest), Moment(cycles, position)
        for key in _begun(module, instruction):
            begins[key] = now
        exchanges = _collectives(module, computation, instruction, runs, begins, now)
        collectives += exchanges
        if instruction.opcode == "while":
            loops.append((instruction.called("body")[0], hlo.trips(module, computation, instruction)))
        if figure is not None:
            cycles += runs * figure
            names[_source(instruction)] += runs * figure
        elif not exchanges and not _is_free(instruction):
            kind = _kind(module, computation, instruction)
            before = uncosted.get(kind, Uncosted(0, 0))
            uncosted[kind] = Uncosted(before.runs + runs, before.nbytes + runs * hlo.nbytes(instruction.shape))
    uncosted = dict(sorted(uncosted.items(), key=lambda item: -item[1].runs))
    text_cycles = sum(filter(None, map(_figure, text.splitlines())))
    return Cost(cycles, text_cycles, uncosted, collectives, loops, names)


def _executed(module: hlo.Module, name: str, runs: int) -> list[Execution]:
    """All instructions that `runs` runs of the computation `name` execute."""
    executed, computation = [], module.computations[name]
    for instruction in computation.values():
        executed.append(Execution(instruction, computation, runs))
        if instruction.opcode == "while":
            trips = hlo.trips(module, computation, instruction)
            executed += _executed(module, instruction.called("body")[0], runs * trips)
            executed += _executed(module, instruction.called("condition")[0], runs * (trips + 1))
        elif instruction.opcode == "call":
            executed += _executed(module, instruction.called("to_apply")[0], runs)
        elif instruction.opcode == "conditional":
            branches = instruction.called("branch_computations", "true_computation", "false_computation")
            executed += max((_executed(module, branch, runs) for branch in branches), key=_cycles)
    return executed


def _cycles(executed: Iterable[Execution]) -> int:
    return sum(runs * (_figure(instruction.rest) or 0) for instruction, _, runs in executed)


def _figure(text: str) -> int | None:
    """The estimated cycles in a line; None if it has none. NO_FIGURE marks work of a SparseCore."""
    match = re.search(r'"estimated_cycles":"?(\d+)', text)
    return int(match[1]) if match and int(match[1]) < NO_FIGURE else None


def _begun(module: hlo.Module, instruction: hlo.Instruction) -> list[str]:
    """The keys of the asynchronous collectives that an instruction begins."""
    if instruction.opcode.removesuffix("-start") in COLLECTIVES and instruction.opcode.endswith("-start"):
        return [_key(instruction)]
    begins = instruction.opcode == "async-start" or (
        instruction.opcode == "fusion" and instruction.name.startswith("async-collective-start")
    )
    parts = [module.computations[name] for name in instruction.called("calls")] if begins else []
    return [_key(inner) for part in parts for inner in part.values() if inner.opcode in COLLECTIVES]


def _key(instruction: hlo.Instruction) -> str:
    """The key of a collective: the same at its begin and at its end, each of which has a copy of it."""
    channel = re.search(r"channel_id=(\d+)", instruction.rest)
    return channel[1] if channel else instruction.name


def _collectives(
    module: hlo.Module, computation: hlo.Computation, instruction: hlo.Instruction, runs: int,
    begins: dict[str, Moment], now: Moment,
) -> list[Collective]:  # fmt: skip
    """The exchanges of an instruction with other devices. An asynchronous one counts at its end, with its result.

    computation: the computation of the instruction
    runs: executions of the instruction
    begins: key -> begin of the asynchronous collectives; those that end here are removed
    now: when the instruction runs
    """
    kind = instruction.opcode.removesuffix("-done")
    start = _start(computation, instruction) if kind != instruction.opcode else instruction
    if kind in COLLECTIVES:
        group = _group(start, module.devices)
        size = hlo.nbytes(instruction.shape) * (group if kind == "reduce-scatter" else 1)
        return [Collective(kind, size, group, runs, begins.pop(_key(start), now), now)]
    exchanges: list[Collective] = []
    if _is_unfinished(instruction):
        return exchanges
    for part in (module.computations[name] for name in (start.called("calls") if kind in ("fusion", "async") else ())):
        # A TPU reduces and scatters by a fusion of an all-reduce and of the slice that the device keeps.
        scatters = any(inner.opcode == "dynamic-slice" for inner in part.values())
        for inner in part.values():
            for exchange in _collectives(module, part, inner, runs, begins, now):
                is_scatter = scatters and exchange.kind == "all-reduce"
                exchanges.append(exchange._replace(kind="reduce-scatter") if is_scatter else exchange)
    return exchanges


def _start(computation: hlo.Computation, instruction: hlo.Instruction) -> hlo.Instruction:
    """The beginning of an asynchronous operation, from its end or an update."""
    begun = computation[instruction.operands[0]]
    return _start(computation, begun) if begun.opcode == "async-update" else begun


def _is_unfinished(instruction: hlo.Instruction) -> bool:
    """True for a fusion that begins or continues a collective that another one ends. Each contains a copy of it."""
    names = (instruction.name, *instruction.called("calls")) if instruction.opcode == "fusion" else ()
    return any(re.match(r"async-collective-start|async_collective_fusion", name) for name in names)


def _group(instruction: hlo.Instruction, devices: int) -> int:
    """Number of devices in one exchange. replica_groups may be lists, an iota, or axes of a mesh."""
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", instruction.rest):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
        return math.prod(sizes[name] for name in re.findall(r"'([^']+)'", mesh[2]))
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", instruction.rest):
        return int(iota[1])
    lists = re.search(r"replica_groups=\{\{([\d,]+)\}", instruction.rest)
    return len(lists[1].split(",")) if lists else devices


def _is_free(instruction: hlo.Instruction) -> bool:
    # An asynchronous operation counts at its end, whose shape is that of the result alone.
    return (
        _name(instruction) in FREE
        or _is_unfinished(instruction)
        or instruction.opcode.endswith(("-start", "-update"))
        or instruction.opcode[:-5] in COLLECTIVES
    )


def _name(instruction: hlo.Instruction) -> str:
    target = re.search(r'custom_call_target="([^"]*)"', instruction.rest)
    return f"{instruction.opcode}:{target[1]}" if target else instruction.opcode


def _kind(module: hlo.Module, computation: hlo.Computation, instruction: hlo.Instruction) -> str:
    """The name for an instruction without a figure; "scalar" if its operands and result are single numbers."""
    if instruction.opcode.endswith("-done"):
        return instruction.opcode.replace("-done", "-start")
    if instruction.opcode == "fusion":
        opcodes = _fused(module, instruction)
        return f"fusion:{next((slow for slow in SLOW if slow in opcodes), opcodes[-1])}"
    operands = [computation[name].shape for name in instruction.operands if name in computation]
    is_scalar = all(hlo.elements(shape) <= 1 for shape in (instruction.shape, *operands))
    return "scalar" if is_scalar and instruction.opcode != "custom-call" else _name(instruction)


def _fused(module: hlo.Module, fusion: hlo.Instruction) -> list[str]:
    """The opcodes in a fusion, and in the fusions in it."""
    parts = [inner for name in fusion.called("calls") for inner in module.computations[name].values()]
    return [code for inner in parts for code in (_fused(module, inner) if inner.opcode == "fusion" else [inner.opcode])]


def _source(instruction: hlo.Instruction) -> str:
    name = re.search(r'op_name="([^"]*)"', instruction.rest)
    return re.sub(r"_\d+\b", "_*", name[1] if name else instruction.opcode)
