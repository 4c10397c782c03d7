"""Parquet files as a text source: the strings of one column, a document each."""

from collections.abc import Iterator

from etils import epath

from bert_tpu.core import command

SUFFIX = ".parquet"
COLUMN = "text"
ROWS = 1024  # read at once


def texts(path: str) -> Iterator[str]:
    """The column `text` of a file, in order; empty values are left out. Raises UserError that names the file."""
    command.require(path, "pyarrow", extra="corpus")
    from pyarrow import lib, parquet

    try:
        with epath.Path(path).open("rb") as raw, parquet.ParquetFile(raw) as file:
            names = file.schema_arrow.names
            if COLUMN not in names:
                raise command.UserError(f"{path} has no column {COLUMN!r} but {', '.join(names)}: rename one")
            for batch in file.iter_batches(ROWS, columns=[COLUMN]):
                yield from filter(None, batch.column(0).to_pylist())
    except (lib.ArrowException, OSError, UnicodeDecodeError) as fault:
        raise command.UserError(f"{path} is damaged or no Parquet file ({fault}); fetch or make it again") from None
