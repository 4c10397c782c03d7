"""Parses the text of an optimized XLA program: computations, instructions, sizes, and the trips of loops."""

import math
import re
from typing import NamedTuple

BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16}


class Instruction(NamedTuple):
    """One line of a computation: `%name = shape opcode(operands), rest`."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]  # names; a constant has its value
    rest: str
    is_root: bool

    def called(self, *keys: str) -> list[str]:
        """Names of the computations in the attributes `keys`."""
        matches = [re.search(rf"\b{key}=\{{?(%?[\w.\-]+(?:, ?%[\w.\-]+)*)", self.rest) for key in keys]
        return [name.strip().lstrip("%") for match in matches if match for name in match[1].split(",")]


Computation = dict[str, Instruction]  # by name, in the order in which they run


class Module(NamedTuple):
    """The computations of a program."""

    computations: dict[str, Computation]
    entry: str  # name of the computation that runs first
    devices: int  # that run the program together


def parse(text: str) -> Module:
    """Parses the text of a program, as `compiled.as_text()` returns it.

    Raises ValueError for another text, and for one that was cut or names computations or values that it does not have.
    """
    computations: dict[str, Computation] = {}
    computation: Computation | None = None
    entry = None
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            computation = computations[head[2]] = {}
            entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            computation = None
        elif computation is not None and (name := re.match(r"\s+(ROOT )?%?([\w.\-]+) = ", line)):
            if name[2] in computation:
                raise ValueError(f"there are two values {name[2]}")
            computation[name[2]] = _instruction(name[2], line[name.end() :], bool(name[1]))
        elif computation is not None and line.strip():
            raise ValueError(f"a line of a computation is not an instruction: {line.strip()[:80]}")
    if entry is None:
        raise ValueError("the text has no ENTRY")
    if computation is not None:
        raise ValueError("the text ends within a computation")
    for label, instructions in computations.items():
        if sum(instruction.is_root for instruction in instructions.values()) != 1:
            raise ValueError(f"the computation {label} does not have one result")
    header = text.partition("\n")[0]
    return Module(
        computations, entry, math.prod(map(int, re.findall(r"(?:num_partitions|replica_count)=(\d+)", header)))
    )


def _instruction(name: str, text: str, is_root: bool) -> Instruction:
    end = _closing(text) if text.startswith("(") else text.find(" ")
    shape, text = text[:end], text[end:].lstrip()
    opcode = text.partition("(")[0]
    if end < 0 or opcode == text:
        raise ValueError(f"the value {name} has no operation")
    end = len(opcode) + _closing(text[len(opcode) :])
    arguments = text[len(opcode) + 1 : end - 1]
    operands = (arguments,) if opcode == "constant" else tuple(re.findall(r"%([\w.\-]+)", arguments))
    return Instruction(name, shape, opcode, operands, text[end:], is_root)


def _closing(text: str) -> int:
    """The position after the bracket that closes the first one."""
    depth = 0
    for bracket in re.finditer(r"[()]", text):
        depth += 1 if bracket[0] == "(" else -1
        if not depth:
            return bracket.end()
    raise ValueError(f"unbalanced brackets: {text[:80]}")


def elements(shape: str) -> int:
    """Number of elements in all arrays of a shape: f32[2,3]{1,0} has 6, (f32[4], s32[]) has 5."""
    return sum(size for _, size in _arrays(shape))


def nbytes(shape: str) -> int:
    """Bytes of all arrays of a shape, without padding."""
    return sum(-(-size * _bits(kind) // 8) for kind, size in _arrays(shape))


def _arrays(shape: str) -> list[tuple[str, int]]:
    """(type, number of elements) of each array of a shape."""
    arrays = re.findall(r"([a-z]\w*)\[([\d,<=]*)\]", re.sub(r"/\*.*?\*/", "", shape))
    return [(kind, math.prod(int(n) for n in re.findall(r"\d+", dims))) for kind, dims in arrays]


def _bits(kind: str) -> int:
    return BITS[kind] if kind in BITS else int(_only(r"[a-z]+(\d+)", kind))


def _only(pattern: str, text: str) -> str:
    """The group of the first match of `pattern` in `text`. Raises ValueError if there is none."""
    match = re.search(pattern, text)
    if match is None:
        raise ValueError(f"{text[:80]} has no {pattern}")
    return match[1]


def trips(module: Module, computation: Computation, loop: Instruction) -> int:
    """Number of times that `loop`, a `while` of `computation`, runs its body.

    It comes from the compiler's note if there is one, else from the counter in the loop's condition: its first value,
    its increment in the body, and its limit. Raises ValueError if the text has neither.
    """
    if known := re.search(r"known_trip_count\D*(\d+)", loop.rest):
        return int(known[1])
    condition, body = (module.computations[loop.called(key)[0]] for key in ("condition", "body"))
    try:
        test = root(condition)
        counter, limit = (_source(condition, name) for name in test.operands)
        index = int(_only(r"index=(\d+)", counter.rest))
        first = _number(computation, _source(computation, loop.operands[0]).operands[index])
        step = _step(body, _source(body, root(body).operands[index]), index)
        last = _number(condition, limit.name) + {"LT": 0, "LE": 1}[_only(r"direction=(\w+)", test.rest)]
    except (IndexError, KeyError, TypeError, ValueError):
        raise ValueError(f"the text does not say how often the loop {loop.name} runs") from None
    return max(0, -((first - last) // step))


def _step(body: Computation, after: Instruction, index: int) -> int:
    """The increment of a loop's counter. after: its next value; index: its index in the body's parameter."""
    operands = (_source(body, name) for name in after.operands)
    before, increment = sorted(operands, key=lambda operand: operand.opcode == "constant")
    step = _number(body, increment.name)
    is_counter = after.opcode == "add" and before.opcode == "get-tuple-element" and f"index={index}" in before.rest
    if not is_counter or step <= 0:
        raise ValueError(after.name)
    return step


def root(computation: Computation) -> Instruction:
    """The instruction whose value the computation returns."""
    return next(instruction for instruction in computation.values() if instruction.is_root)


def _source(computation: Computation, name: str) -> Instruction:
    """The instruction that computes the value `name`, which may be a copy."""
    instruction = computation[name]
    is_copy = instruction.opcode in ("copy", "bitcast", "copy-done", "copy-start")
    return _source(computation, instruction.operands[0]) if is_copy else instruction


def _number(computation: Computation, name: str) -> int:
    return int(_source(computation, name).operands[0])
