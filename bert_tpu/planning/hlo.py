"""The text of an optimized XLA program, taken apart: computations, instructions, sizes, and how often a loop runs."""

import math
import re
from typing import NamedTuple

BITS = {"pred": 8, "token": 0, "opaque": 0, "bf16": 16}


class Instruction(NamedTuple):
    """One line of a computation: `%name = shape opcode(operands), rest`."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]  # names; of a constant, its value
    rest: str
    is_root: bool

    def called(self, *keys) -> list[str]:
        """Names of the computations that the attributes `keys` give."""
        found = [re.search(rf"\b{key}=\{{?(%?[\w.\-]+(?:, ?%[\w.\-]+)*)", self.rest) for key in keys]
        return [name.strip().lstrip("%") for match in found if match for name in match[1].split(",")]


class Module(NamedTuple):
    """The computations of a text by name, each instruction by name in the order in which they run."""

    computations: dict[str, dict[str, Instruction]]
    entry: str
    devices: int  # that run the program together


def parse(text) -> Module:
    """The instructions of a program's text, as `compiled.as_text()` gives it. Raises ValueError for another text."""
    computations, inside, entry = {}, None, None
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            inside = computations[head[2]] = {}
            entry = head[2] if head[1] else entry
        elif line.startswith("}"):
            inside = None
        elif inside is not None and (name := re.match(r"\s+(ROOT )?%?([\w.\-]+) = ", line)):
            inside[name[2]] = _instruction(name[2], line[name.end() :], bool(name[1]))
    if entry is None:
        raise ValueError("the text has no ENTRY: give the HLO text of a compiled program")
    header = text[: text.index("\n")]
    return Module(
        computations, entry, math.prod(map(int, re.findall(r"(?:num_partitions|replica_count)=(\d+)", header)))
    )


def _instruction(name, text, is_root):
    end = _closing(text) if text.startswith("(") else text.index(" ")
    shape, text = text[:end], text[end:].lstrip()
    opcode = text[: text.index("(")]
    end = len(opcode) + _closing(text[len(opcode) :])
    given = text[len(opcode) + 1 : end - 1]
    operands = (given,) if opcode == "constant" else tuple(re.findall(r"%([\w.\-]+)", given))
    return Instruction(name, shape, opcode, operands, text[end:], is_root)


def _closing(text):
    """The place after the bracket that closes the first one."""
    depth = 0
    for bracket in re.finditer(r"[()]", text):
        depth += 1 if bracket[0] == "(" else -1
        if not depth:
            return bracket.end()
    raise ValueError(f"unbalanced brackets: {text[:80]}")


def elements(shape) -> int:
    """Numbers in all arrays of a shape: f32[2,3]{1,0} has 6, (f32[4], s32[]) has 5."""
    return sum(size for _, size in _arrays(shape))


def nbytes(shape) -> int:
    """Bytes of all arrays of a shape, padding not counted."""
    return sum(-(-size * _bits(kind) // 8) for kind, size in _arrays(shape))


def _arrays(shape):
    found = re.findall(r"([a-z]\w*)\[([\d,<=]*)\]", re.sub(r"/\*.*?\*/", "", shape))
    return [(kind, math.prod(int(n) for n in re.findall(r"\d+", dims))) for kind, dims in found]


def _bits(kind):
    return BITS[kind] if kind in BITS else int(re.match(r"[a-z]+(\d+)", kind)[1])


def trips(module, inside, loop) -> int:
    """How often `loop`, a `while` of the computation `inside`, runs its body.

    From what the compiler notes, else from the counter that its condition compares: where it starts, by how much the
    body moves it, and where it ends. Raises ValueError where the text does not say.
    """
    if known := re.search(r"known_trip_count\D*(\d+)", loop.rest):
        return int(known[1])
    condition, body = (module.computations[loop.called(key)[0]] for key in ("condition", "body"))
    try:
        test = root(condition)
        counter, limit = (_behind_copies(condition, name) for name in test.operands)
        place = int(re.search(r"index=(\d+)", counter.rest)[1])
        first = _number(inside, _behind_copies(inside, loop.operands[0]).operands[place])
        step = _step(body, _behind_copies(body, root(body).operands[place]), place)
        last = _number(condition, limit.name) + {"LT": 0, "LE": 1}[re.search(r"direction=(\w+)", test.rest)[1]]
    except (IndexError, KeyError, TypeError, ValueError):
        raise ValueError(f"the text does not say how often the loop {loop.name} runs") from None
    return max(0, -((first - last) // step))


def _step(body, after, place):
    """By how much `after`, the counter's next value, is above the one that comes in at `place`."""
    made_from = (_behind_copies(body, name) for name in after.operands)
    before, by = sorted(made_from, key=lambda one: one.opcode == "constant")
    step = _number(body, by.name)
    counts = after.opcode == "add" and before.opcode == "get-tuple-element" and f"index={place}" in before.rest
    if not counts or step <= 0:
        raise ValueError(after.name)
    return step


def root(computation) -> Instruction:
    """The instruction whose value a computation gives back."""
    return next(one for one in computation.values() if one.is_root)


def _behind_copies(inside, name):
    """The instruction that made a value."""
    one = inside[name]
    moves = one.opcode in ("copy", "bitcast", "copy-done", "copy-start")
    return _behind_copies(inside, one.operands[0]) if moves else one


def _number(inside, name):
    return int(_behind_copies(inside, name).operands[0])
