"""What one run of an optimized TPU program costs: executed cycles, what has no figure, what goes over the links.

XLA:TPU writes `"estimated_cycles"` beside most instructions. A plain sum over the text counts a loop's body once; here
the walk starts at ENTRY, a body counts as often as it runs, and of a conditional the dearest branch counts.
"""

import collections
import math
import re
from typing import NamedTuple

from bert_tpu.planning import hlo

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
# They name, pass on or wait for what another instruction makes; ConcatBitcast joins what lies side by side already.
FREE = {
    "parameter", "get-tuple-element", "tuple", "bitcast", "constant", "after-all", "partition-id", "replica-id",
    "custom-call:ConcatBitcast", "while", "call", "conditional",
}  # fmt: skip
NO_FIGURE = 2**63 - 1
# What a fusion without a figure is called after, if it holds one of them.
SLOW = ("gather", "scatter", "sort", "rng-bit-generator", "dynamic-update-slice", "dynamic-slice", "reduce-window")


class Collective(NamedTuple):
    """One collective instruction."""

    kind: str
    nbytes: int  # of the whole buffer: what a device gives to be reduced, or has once all is gathered
    group: int  # devices that exchange with each other
    runs: int


class Uncosted(NamedTuple):
    """Instructions of one kind that carry no figure."""

    runs: int
    nbytes: int  # of their results, in all runs


class Cost(NamedTuple):
    """One run of a program on one device: a core on v2 and v3, both cores of a chip (a megacore) on v4 and v5p."""

    cycles: int  # executed, of the instructions that carry a figure
    text_cycles: int  # the plain sum over the text, for comparison
    uncosted: dict[str, Uncosted]  # most runs first
    collectives: list[Collective]
    loops: list[tuple[str, int]]  # (body, trips)
    names: collections.Counter  # operation of the source -> cycles; layers of a kind are one


def program_cost(text) -> Cost:
    """The Cost of a program's text. Raises ValueError where a loop does not say how often it runs."""
    module = hlo.parse(text)
    cycles, names, loops, collectives, uncosted = 0, collections.Counter(), [], [], {}
    for one, inside, runs in _executed(module, module.entry, 1):
        figure = _figure(one.rest)
        exchanged = _collectives(module, inside, one, runs)
        collectives += exchanged
        if one.opcode == "while":
            loops.append((one.called("body")[0], hlo.trips(module, inside, one)))
        if figure is not None:
            cycles += runs * figure
            names[_source(one)] += runs * figure
        elif not exchanged and not _is_free(one):
            kind = _kind(module, inside, one)
            before = uncosted.get(kind, Uncosted(0, 0))
            uncosted[kind] = Uncosted(before.runs + runs, before.nbytes + runs * hlo.nbytes(one.shape))
    uncosted = dict(sorted(uncosted.items(), key=lambda item: -item[1].runs))
    flat = sum(filter(None, map(_figure, text.splitlines())))
    return Cost(cycles, flat, uncosted, collectives, loops, names)


def _executed(module, name, runs):
    """(instruction, its computation, how often it runs) of all that a computation's `runs` runs execute."""
    found, inside = [], module.computations[name]
    for one in inside.values():
        found.append((one, inside, runs))
        if one.opcode == "while":
            times = hlo.trips(module, inside, one)
            found += _executed(module, one.called("body")[0], runs * times)
            found += _executed(module, one.called("condition")[0], runs * (times + 1))
        elif one.opcode == "call":
            found += _executed(module, one.called("to_apply")[0], runs)
        elif one.opcode == "conditional":
            branches = one.called("branch_computations", "true_computation", "false_computation")
            found += max((_executed(module, branch, runs) for branch in branches), key=_cycles)
    return found


def _cycles(executed):
    return sum(runs * (_figure(one.rest) or 0) for one, _, runs in executed)


def _figure(text):
    """The estimated cycles that a line notes; what goes to a SparseCore has the largest number there, which is none."""
    found = re.search(r'"estimated_cycles":"?(\d+)', text)
    return int(found[1]) if found and int(found[1]) < NO_FIGURE else None


def _collectives(module, inside, one, runs):
    """What an instruction exchanges with other devices; an asynchronous one counts where it ends and has its result."""
    kind = one.opcode.removesuffix("-done")
    start = inside[one.operands[0]] if kind != one.opcode else one
    if kind in COLLECTIVES:
        group = _group(start, module.devices)
        size = hlo.nbytes(one.shape) * (group if kind == "reduce-scatter" else 1)
        return [Collective(kind, size, group, runs)]
    found = []
    if _goes_on(one):
        return found
    for part in map(module.computations.get, start.called("calls") if kind in ("fusion", "async") else ()):
        # A fusion of an all-reduce and of the slice that is this device's own is how a TPU reduces and scatters.
        scatters = any(each.opcode == "dynamic-slice" for each in part.values())
        for each in (each for inner in part.values() for each in _collectives(module, part, inner, runs)):
            found.append(each._replace(kind="reduce-scatter") if scatters and each.kind == "all-reduce" else each)
    return found


def _goes_on(one):
    """True of a fusion that begins or carries on a collective which another ends: each of them holds a copy of it."""
    named = (one.name, *one.called("calls")) if one.opcode == "fusion" else ()
    return any(re.match(r"async-collective-start|async_collective_fusion", name) for name in named)


def _group(one, devices):
    """How many devices take part in one exchange: replica_groups as lists, as an iota, or as axes of a mesh."""
    if mesh := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", one.rest):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
        return math.prod(sizes[name] for name in re.findall(r"'([^']+)'", mesh[2]))
    if iota := re.search(r"replica_groups=\[\d+,(\d+)\]<=", one.rest):
        return int(iota[1])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", one.rest)
    return len(listed[1].split(",")) if listed else devices


def _is_free(one):
    # Of what runs beside the rest, the end counts: its shape is the result's alone.
    return (
        _name(one) in FREE
        or _goes_on(one)
        or one.opcode.endswith(("-start", "-update"))
        or one.opcode[:-5] in COLLECTIVES
    )


def _name(one):
    target = re.search(r'custom_call_target="([^"]*)"', one.rest)
    return f"{one.opcode}:{target[1]}" if target else one.opcode


def _kind(module, inside, one):
    """What to call an instruction without a figure; "scalar" if it takes and makes nothing but single numbers."""
    if one.opcode.endswith("-done"):
        return one.opcode.replace("-done", "-start")
    if one.opcode == "fusion":
        within = _fused(module, one)
        return f"fusion:{next((slow for slow in SLOW if slow in within), within[-1])}"
    shapes = [one.shape, *(inside[name].shape for name in one.operands if name in inside)]
    is_scalar = one.opcode != "custom-call" and all(hlo.elements(shape) <= 1 for shape in shapes)
    return "scalar" if is_scalar else _name(one)


def _fused(module, one):
    """Opcodes within a fusion, and within the fusions in it."""
    parts = [each for name in one.called("calls") for each in module.computations[name].values()]
    return [code for each in parts for code in (_fused(module, each) if each.opcode == "fusion" else [each.opcode])]


def _source(one):
    name = re.search(r'op_name="([^"]*)"', one.rest)
    return re.sub(r"_\d+\b", "_*", name[1] if name else one.opcode)
