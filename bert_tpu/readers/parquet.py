"""Parquet files as a text source: each value of one column is a document.

A column inside a struct has a name with dots, answer.text. Strings and bytes are read, plain or dictionary-encoded. Any
other type is refused by name: a list may hold words, sentences or whole documents, which only its owner knows.
"""

from collections.abc import Iterator
import contextlib
import itertools
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from bert_tpu.core import command

if TYPE_CHECKING:
    import pyarrow

SUFFIX = ".parquet"
ROWS = 1024  # read at once, at most
BATCH_BYTES = 4 << 20  # of the column's values read at once, if the rows are about equally long
BUFFER_BYTES = 1 << 20  # read from the file at once; pyarrow's default is a whole row group, of any size
NAMED_COLUMNS = 8  # listed in an error
ERROR_CHARS = 200  # of pyarrow's messages


class Leaf(NamedTuple):
    """A column that is not a struct; it may be inside structs."""

    path: tuple[str, ...]
    type: "pyarrow.DataType"

    @property
    def name(self) -> str:
        """The name as a user writes it."""
        return ".".join(self.path)


def texts(file: BinaryIO, path: str, column: str, share: tuple[int, int] = (0, 1)) -> Iterator[bytes | None]:
    """The values of a column in order, None for a missing one. Memory grows neither with the file nor its row groups.

    file: the open Parquet file, which is read only where the column is.
    path: names the file in errors.
    column: its name.
    share: (i, n) for the i-th of n shares of about equal bytes. Each row group is in one of them.

    Raises UserError that names the file, if it is damaged or encrypted, or has no such column of text.
    """
    command.require(path, "pyarrow", extra="corpus")
    from pyarrow import parquet

    with _naming(path):
        if not file.seek(0, 2):
            raise command.UserError(f"{path} is empty, and so not a Parquet file; fetch or make it again")
        options = {"pre_buffer": False, "buffer_size": BUFFER_BYTES, "page_checksum_verification": True}
        with parquet.ParquetFile(file, **options) as table:
            leaf = _leaf(table.schema_arrow, column, path)
            for group in _groups(table, share):
                yield from _group(table, leaf, group)


def _groups(table: "pyarrow.parquet.ParquetFile", share: tuple[int, int]) -> list[int]:
    """The numbers of the row groups of a share: those whose middle row is in it."""
    # Rows, not bytes: pyarrow aborts the process if it is asked for the place of a column in a damaged file.
    number, shares = share
    rows = [table.metadata.row_group(group).num_rows for group in range(table.metadata.num_row_groups)]
    total = table.metadata.num_rows
    if sum(rows) != total or min(rows, default=0) < 0:
        raise OSError(f"its row groups have {sum(rows):,} rows instead of {total:,}")
    starts = itertools.accumulate(rows, initial=0)
    middles = [start + size // 2 for start, size in zip(starts, rows, strict=False)]
    return [group for group, middle in enumerate(middles) if middle * shares // max(total, 1) == number]


def _group(table: "pyarrow.parquet.ParquetFile", leaf: Leaf, group: int) -> Iterator[bytes | None]:
    """The values of a column in one row group."""
    from pyarrow import compute

    size = table.metadata.row_group(group)
    row_bytes = size.total_byte_size // max(size.num_rows, 1)  # of all columns, which is at least that of one
    batch_rows = min(max(BATCH_BYTES // max(row_bytes, 1), 1), ROWS)
    left = size.num_rows
    for batch in table.iter_batches(batch_rows, row_groups=[group], columns=[leaf.name], use_threads=False):
        values = batch.column(0)
        for name in leaf.path[1:]:
            values = compute.struct_field(values, name)
        left -= len(values)
        yield from _values(values)
    if left:
        raise OSError(f"row group {group} lacks {left:,} of its {size.num_rows:,} rows")


def _values(values: "pyarrow.Array") -> list[bytes | None]:
    """The values as bytes, since pyarrow does not check that strings are UTF-8."""
    from pyarrow import types

    if types.is_dictionary(values.type):
        # Not dictionary_decode(), which would repeat long texts in memory.
        meanings = _values(values.dictionary)
        return [None if i is None else meanings[i] for i in values.indices.to_pylist()]
    if types.is_null(values.type):
        return [None] * len(values)
    if kind := _BINARY.get(str(values.type)):
        values = values.cast(kind)
    return values.to_pylist()


_BINARY = {"string": "binary", "large_string": "large_binary", "string_view": "binary_view"}


def _leaf(schema: "pyarrow.Schema", column: str, path: str) -> Leaf:
    """The column of this name. Raises UserError if there is none, if there are two, or if it has no text."""
    leaves = list(_leaves(schema, ()))
    matching = [leaf for leaf in leaves if leaf.name == column]
    strings = [leaf.name for leaf in leaves if _is_string(leaf.type)]
    known = strings or [leaf.name for leaf in leaves if _is_text(leaf.type)]
    names = ", ".join(known[:NAMED_COLUMNS]) + (", ..." if len(known) > NAMED_COLUMNS else "")
    advice = f"--column takes one of {names}" if known else "it has no column of text: convert it to strings"
    if len(matching) > 1:
        raise command.UserError(f"{path} has {len(matching)} columns {column!r}; rename all but one")
    if matching and not _is_text(matching[0].type):
        raise command.UserError(f"{path}: column {column} is {_short(matching[0].type)}, not text; {advice}")
    if column in schema.names and not matching:
        raise command.UserError(f"{path}: column {column} is {_short(schema.field(column).type)}, not text; {advice}")
    if not matching:
        raise command.UserError(f"{path} has no column {column!r}; {advice}")
    return matching[0]


def _leaves(fields: "pyarrow.Schema | pyarrow.StructType", above: tuple[str, ...]) -> Iterator[Leaf]:
    from pyarrow import types

    for field in fields:
        if types.is_struct(field.type):
            yield from _leaves(field.type, (*above, field.name))
        else:
            yield Leaf((*above, field.name), field.type)


def _is_string(kind: "pyarrow.DataType") -> bool:
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return str(kind) in _BINARY


def _is_text(kind: "pyarrow.DataType") -> bool:
    """True for strings, for bytes of any length, and for a column with nothing but missing values."""
    from pyarrow import types

    kind = kind.value_type if types.is_dictionary(kind) else kind
    return _is_string(kind) or str(kind) in _BINARY.values() or types.is_null(kind)


def _short(kind: "pyarrow.DataType") -> str:
    text = str(kind)
    return text if len(text) < 80 else f"{text[:80]}..."


@contextlib.contextmanager
def _naming(path: str) -> Iterator[None]:
    """Turns pyarrow's errors into a UserError that names `path`."""
    from pyarrow import lib

    try:
        yield
    except (lib.ArrowException, OSError, ValueError) as error:
        if getattr(error, "errno", None) is not None:  # an error of the system, not of the file
            raise
        reason = " ".join(str(error).split())[:ERROR_CHARS]
        if "crypt" in reason:
            raise command.UserError(f"{path} is encrypted ({reason}); write it again without encryption") from None
        if isinstance(error, NotImplementedError):
            raise command.UserError(
                f"pyarrow cannot read {path} ({reason}); write it again, compressed by zstd"
            ) from None
        raise command.UserError(f"{path} is damaged or not a Parquet file ({reason}); fetch or make it again") from None
