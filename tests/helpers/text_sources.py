"""Documents that several tests write to files, and functions that read such files."""

import bz2
import gzip
import lzma

import pytest

from bert_tpu.core import command
from bert_tpu.readers import sources

DOCUMENTS = ["One line.\nAnd “another”.", "Second; é 中 🤗.", "Third."]
WIKI = "".join(f'<doc id="{i}" url="u" title="t">\n{text}\n\n</doc>\n' for i, text in enumerate(DOCUMENTS))
PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


def read(path, text_format="auto", column="text"):
    """Returns the texts of the documents in the files that match `path`, and the counts."""
    counts = sources.Counts()
    documents = sources.documents(sources.find([str(path)]), counts, text_format=text_format, column=column)
    return [document.text.strip("\n") for document in documents], counts


def complaint(path, text_format="auto", column="text"):
    """Returns the message of the error that `read` raises, which must name `path`."""
    with pytest.raises(command.UserError) as raised:
        read(path, text_format, column)
    assert str(path) in str(raised.value)
    return str(raised.value)
