"""Arrow files as a text source, such as data-00000-of-00001.arrow of a folder that `datasets` saved to disk.

Both of Arrow's forms are read, the stream and the file. https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from collections.abc import Iterator
import os
from typing import BinaryIO

from bert_tpu.core import command
from bert_tpu.readers import text_columns

STREAM, FILE = b"\xff\xff\xff\xff", b"ARROW1"  # how the two forms begin
END = STREAM + bytes(4)  # of a stream


def texts(file: BinaryIO, path: str, column: str) -> Iterator[bytes | None]:
    """The values of a column in order, None for a missing one. A record batch is in memory at a time.

    file: the open file.
    path: names the file in errors.
    column: its name.

    Raises UserError that names the file, if it is damaged or has no such column of text.
    """
    command.require(path, "pyarrow", extra="corpus")
    from pyarrow import ipc

    with text_columns.naming(path, "an Arrow file"):
        is_file = file.read(len(FILE)) == FILE
        if not is_file and (file.seek(-len(END), os.SEEK_END), file.read())[1] != END:
            raise EOFError("its end is missing")  # pyarrow would take the batches that are left for all
        file.seek(0)
        opened = ipc.open_file if is_file else ipc.open_stream
        with opened(file) as table:
            leaf = text_columns.leaf(table.schema, column, path)
        file.seek(0)
        options = ipc.IpcReadOptions(included_fields=[table.schema.names.index(leaf.path[0])])
        with opened(file, options=options) as table:
            batches = map(table.get_batch, range(table.num_record_batches)) if is_file else table
            for batch in batches:
                yield from text_columns.values(batch, leaf)
            if not is_file and file.read(1):
                raise OSError("it goes on after its end, perhaps with another file")
