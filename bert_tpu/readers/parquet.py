"""Parquet files as a text source: each string of one column is a document."""

from collections.abc import Iterator

from etils import epath

from bert_tpu.core import command

ROWS = 1024  # read at once


def texts(path: str, column: str = "text") -> Iterator[str]:
    """The values of a column in order, without empty ones. Raises UserError that names the file."""
    command.require(path, "pyarrow", extra="corpus")
    from pyarrow import lib, parquet

    try:
        with epath.Path(path).open("rb") as raw, parquet.ParquetFile(raw) as file:
            names = file.schema_arrow.names
            if column not in names:
                raise command.UserError(f"{path} has no column {column!r} but {', '.join(names)}: rename one")
            for batch in file.iter_batches(ROWS, columns=[column]):
                yield from filter(None, batch.column(0).to_pylist())
    except (lib.ArrowException, OSError, UnicodeDecodeError) as error:
        raise command.UserError(f"{path} is damaged or not a Parquet file ({error}); fetch or make it again") from None
