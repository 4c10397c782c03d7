"""Units of reading: consecutive sources that one process reads and cuts into parts.

unit-00012.json is written after the unit's parts and has their number. A unit with this file is not read again.
"""

from collections.abc import Iterator
import dataclasses
import os
from typing import NamedTuple

from etils import epath

from bert_tpu.core import json_files, storage
from bert_tpu.corpus import worker
from bert_tpu.readers import parquet, sources

FILES = "unit-*"  # matches the files of `record_path` and `fault_path`
PART_CHARS = (1 << 18, 1 << 22)  # minimum and maximum of a part, whose shard has at most about 3 MB; bounds the memory
SHARE_BYTES = 1 << 27  # of a Parquet file, at least: what a worker of a killed run reads again. 6% are read in vain
PARTS = 64  # the number of parts to aim at, between these bounds


class Unit(NamedTuple):
    """Consecutive sources."""

    number: int
    first: int  # number of its first source among all sources
    sources: tuple[sources.Source, ...]

    @property
    def size(self) -> int:
        """The bytes of all its sources, or of its share of one."""
        return sum(source.share_bytes for source in self.sources)


class Work(NamedTuple):
    """The settings with which all units become parts."""

    out: str  # folder of the unfinished corpus
    options: worker.Options
    chars: int  # size at which a part is full


@dataclasses.dataclass
class UnitCounts(sources.Counts):
    """Counts of a unit's text and parts; they grow while it is read."""

    parts: int = 0


def part_chars(inputs: list[sources.Source]) -> int:
    """Returns the size of the parts of these sources, in characters."""
    least, most = PART_CHARS
    return min(max(sum(source.bytes for source in inputs) // PARTS, least), most)


def cut(inputs: list[sources.Source], size: int) -> list[Unit]:
    """Groups all sources, in order, into units of at least `size` bytes.

    Only the last may be smaller, and the one before a large Parquet file. Such a file becomes several units.
    """
    units: list[Unit] = []
    first = unit_bytes = 0
    for i, source in enumerate(inputs):
        shares = source.bytes // SHARE_BYTES if source.path.endswith(parquet.SUFFIX) else 1
        if shares > 1:
            if first < i:
                units.append(Unit(len(units), first, tuple(inputs[first:i])))
            for share in range(shares):
                units.append(Unit(len(units), i, (source._replace(share=(share, shares)),)))
            first, unit_bytes = i + 1, 0
            continue
        unit_bytes += source.bytes
        if unit_bytes >= size or i + 1 == len(inputs):
            units.append(Unit(len(units), first, tuple(inputs[first : i + 1])))
            first, unit_bytes = i + 1, 0
    return units


def read(unit: Unit, work: Work, counts: UnitCounts) -> Iterator[tuple[str, list[sources.Document]]]:
    """Yields the name and the documents of each of the unit's parts. All are full except the last. Updates `counts`."""
    part, chars = [], 0
    form, column = work.options.format, work.options.column
    for document in sources.documents(unit.sources, counts, text_format=form, column=column, first=unit.first):
        part.append(document)
        chars += len(document.text)
        if chars >= work.chars:
            counts.parts += 1
            yield worker.part_name(unit.number, counts.parts - 1), part
            part, chars = [], 0
    if part:
        counts.parts += 1
        yield worker.part_name(unit.number, counts.parts - 1), part


def record_path(out: str | os.PathLike, number: int) -> epath.Path:
    """Returns the path of a unit's record: the file of its counts, which exists once all its parts are finished."""
    return epath.Path(out) / f"unit-{number:05d}.json"


def fault_path(out: str | os.PathLike, number: int) -> epath.Path:
    """Returns the path of the file in which a process that cannot raise an error describes what is wrong in a unit."""
    return epath.Path(out) / f"unit-{number:05d}.fault"


def fault_paths(work: Work) -> list[epath.Path]:
    """Returns the paths of all faults, in the order of the units."""
    return sorted(storage.named(work.out, "unit-*.fault"))


def write_record(number: int, work: Work, counts: UnitCounts) -> None:
    """Writes a unit's record; its parts must be finished."""
    storage.write_bytes(record_path(work.out, number), storage.json_bytes(dataclasses.asdict(counts)))


def read_record(number: int, work: Work) -> UnitCounts:
    """Reads a unit's record."""
    return UnitCounts(**json_files.read(record_path(work.out, number), remedy=f"delete {work.out}"))


def unfinished(units: list[Unit], work: Work) -> list[Unit]:
    """Returns the units without a record."""
    names = {path.name for path in storage.named(work.out, FILES)}
    return [unit for unit in units if record_path(work.out, unit.number).name not in names]
