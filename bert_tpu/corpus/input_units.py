"""A unit of reading: consecutive sources, read by one process and cut into parts that are its own.

unit-00012.json, written behind the unit's parts, says how many there are: where it is, nobody reads the unit again.
"""

from collections.abc import Iterator
import dataclasses
import json
from typing import NamedTuple

from etils import epath

from bert_tpu.core import storage
from bert_tpu.corpus import worker
from bert_tpu.readers import sources

FILES = "unit-*"  # those that `record` and `fault` name
PART_CHARS = (1 << 18, 1 << 22)  # least and most of a part, a shard of at most some 3 MB; bounds the memory
PARTS = 64  # aimed at, between these bounds


class Unit(NamedTuple):
    """Some sources, and where among all of them they are."""

    number: int
    first: int  # of its sources, the number among all
    sources: tuple[sources.Source, ...]

    @property
    def bytes(self) -> int:
        """Of its sources together."""
        return sum(source.bytes for source in self.sources)


class Work(NamedTuple):
    """What becomes of every unit, and in which folder."""

    out: str
    options: worker.Options
    chars: int  # from which on a part is full


@dataclasses.dataclass
class Told(sources.Counts):
    """What a unit holds; grows while it is read."""

    parts: int = 0


def part_chars(found: list[sources.Source]) -> int:
    """The size of a part of so many sources."""
    least, most = PART_CHARS
    return min(max(sum(source.bytes for source in found) // PARTS, least), most)


def cut(found: list[sources.Source], size: int) -> list[Unit]:
    """Every source in one unit, in order; each unit has at least `size` bytes, save the last."""
    made, held, held_bytes = [], [], 0
    for i, source in enumerate(found):
        held.append(source)
        held_bytes += source.bytes
        if held_bytes >= size or i == len(found) - 1:
            made.append(Unit(len(made), i + 1 - len(held), tuple(held)))
            held, held_bytes = [], 0
    return made


def read(unit: Unit, work: Work, told: Told) -> Iterator[tuple[str, list[sources.Document]]]:
    """The name and the documents of each of the unit's parts, all of them full save the last."""
    held, size = [], 0
    for document in sources.documents(unit.sources, told, text_format=work.options.format, first=unit.first):
        held.append(document)
        size += len(document.text)
        if size >= work.chars:
            told.parts += 1
            yield worker.name(unit.number, told.parts - 1), held
            held, size = [], 0
    if held:
        told.parts += 1
        yield worker.name(unit.number, told.parts - 1), held


def record(out: str, number: int) -> epath.Path:
    """The file that says, once it exists, that all parts of a unit are done, and how many they are."""
    return epath.Path(out) / f"unit-{number:05d}.json"


def fault(out: str, number: int) -> epath.Path:
    """Where a process that cannot raise it says what is wrong with a unit."""
    return epath.Path(out) / f"unit-{number:05d}.fault"


def faults(work: Work) -> list[epath.Path]:
    """All of these that there are, in the order of the units."""
    return sorted(epath.Path(work.out).glob("unit-*.fault"))


def close(number: int, work: Work, told: Told) -> None:
    """The unit's record is written; its parts must be done."""
    storage.write_bytes(record(work.out, number), storage.json_bytes(dataclasses.asdict(told)))


def load(number: int, work: Work) -> Told:
    """What the unit's record says."""
    return Told(**json.loads(record(work.out, number).read_bytes()))


def left(units: list[Unit], work: Work) -> list[Unit]:
    """Those without a record."""
    done = {path.name for path in epath.Path(work.out).glob(FILES)}
    return [unit for unit in units if record(work.out, unit.number).name not in done]
