"""Parquet files as a text source: each value of one column is a document."""

from collections.abc import Iterator
import contextlib
import itertools
import os
from typing import TYPE_CHECKING, BinaryIO

from bert_tpu.core import command
from bert_tpu.readers import text_columns

if TYPE_CHECKING:
    import pyarrow

SUFFIX = ".parquet"
SUMMARY = "_metadata"  # a file that Spark and Dask write
ROWS = 1024  # read at once, at most
BATCH_BYTES = 4 << 20  # of the column's values read at once, if the rows are about equally long
BUFFER_BYTES = 1 << 20  # read from the file at once; pyarrow's default is a whole row group, of any size


def texts(file: BinaryIO, path: str, column: str, share: tuple[int, int] = (0, 1)) -> Iterator[bytes | None]:
    """The values of a column in order, None for a missing one. Memory grows neither with the file nor its row groups.

    file: the open Parquet file, which is read only where the column is.
    path: names the file in errors.
    column: its name.
    share: (i, n) for the i-th of n shares of about equal rows. Each row group is in one of them.

    Raises UserError that names the file, if it is damaged or encrypted, or has no such column of text.
    """
    with _open(file, path) as table:
        leaf = text_columns.leaf(table.schema_arrow, column, path)
        for group in _groups(table, share):
            yield from _group(table, leaf, group)


def count_groups(file: BinaryIO, path: str) -> int:
    """Returns the number of a file's row groups. Arguments and errors are those of `texts`."""
    with _open(file, path) as table:
        return table.metadata.num_row_groups


@contextlib.contextmanager
def _open(file: BinaryIO, path: str) -> Iterator["pyarrow.parquet.ParquetFile"]:
    command.require(path, "pyarrow", extra="corpus")
    if os.path.basename(path) == SUMMARY:
        raise command.UserError(f"{path} is only a summary of the files next to it; name those, as in 'DIR/*.parquet'")
    from pyarrow import parquet

    with text_columns.naming(path, "a Parquet file"):
        if not file.seek(0, 2):
            raise command.UserError(f"{path} is empty, and so not a Parquet file; fetch or make it again")
        options = {"pre_buffer": False, "buffer_size": BUFFER_BYTES, "page_checksum_verification": True}
        with parquet.ParquetFile(file, **options) as table:
            yield table


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


def _group(table: "pyarrow.parquet.ParquetFile", leaf: text_columns.Leaf, group: int) -> Iterator[bytes | None]:
    """The values of a column in one row group."""
    size = table.metadata.row_group(group)
    row_bytes = size.total_byte_size // max(size.num_rows, 1)  # of all columns, which is at least that of one
    batch_rows = min(max(BATCH_BYTES // max(row_bytes, 1), 1), ROWS)
    left = size.num_rows
    for batch in table.iter_batches(batch_rows, row_groups=[group], columns=[leaf.name], use_threads=False):
        left -= len(batch)
        yield from text_columns.values(batch, leaf)
    if left:
        raise OSError(f"row group {group} lacks {left:,} of its {size.num_rows:,} rows")
