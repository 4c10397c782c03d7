"""Tests share these documents, and read them back from the files that they wrote."""

import bz2
import gzip
import lzma

import pytest

from bert_tpu.core import command
from bert_tpu.readers import sources

DOCUMENTS = ["One line.\nAnd “another”.", "Second; é 中 🤗.", "Third."]
WIKI = "".join(f'<doc id="{i}" url="u" title="t">\n{text}\n\n</doc>\n' for i, text in enumerate(DOCUMENTS))
PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}


def read(path, format="auto"):
    """The texts of the documents that match `path`, and the counts."""
    counts = sources.Counts()
    found = sources.documents(sources.find([str(path)]), counts, text_format=format)
    return [document.text.strip("\n") for document in found], counts


def complaint(path, format="auto") -> str:
    with pytest.raises(command.UserError) as raised:
        read(path, format)
    assert str(path) in str(raised.value)
    return str(raised.value)
