"""Text sources: documents that are written in each format and read again, and damaged files."""

import bz2
import functools
import gzip
import html
import json
import lzma
import pathlib
import tempfile
from xml.sax import saxutils

from backports import zstd
from hypothesis import strategies as st
import pyarrow
from pyarrow import ipc, parquet

from bert_tpu.core import command
from bert_tpu.readers import sources
from fuzz import damaged
from fuzz.target import Target

# Characters that a format could take for its own.
LETTERS = "abcdeéßçИлक中のไ🙂 \t.,;:!?'\"&<>{}[]|=\\/#-_%@0123\u00a0\u2028\u0085\u200b"
SUFFIXES = ("", ".txt", ".json", ".jsonl", ".gz", ".xml", ".tsv", ".1")


def _paragraphs():
    words = st.text(st.sampled_from(LETTERS), min_size=1, max_size=30)
    return st.lists(words.filter(lambda text: text.strip()), min_size=1, max_size=4)


DOCUMENTS = st.lists(_paragraphs(), min_size=1, max_size=4)


def _as_text(documents):
    return "\n\n".join("\n".join(document) for document in documents).encode()


def _as_jsonl(documents, ascii_only=True):
    lines = [json.dumps({"id": i, "text": "\n".join(d)}, ensure_ascii=ascii_only) for i, d in enumerate(documents)]
    return "\n".join(lines).encode()


def _as_wiki(documents):
    parts = [
        f'<doc id="{i}" url="" title="the title {i}">\n'
        + "\n".join(html.escape(p, quote=False) for p in document)
        + "\n</doc>\n"
        for i, document in enumerate(documents)
    ]
    return "".join(parts).encode()


def _as_parquet(documents, kind="string", **options):
    file = pyarrow.BufferOutputStream()
    parquet.write_table(_table(documents, kind), file, **options)
    return file.getvalue().to_pybytes()


def _as_arrow(documents, new=ipc.new_stream):
    file, table = pyarrow.BufferOutputStream(), _table(documents, "string")
    with new(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return file.getvalue().to_pybytes()


def _table(documents, kind):
    column = pyarrow.array(["\n".join(document) for document in documents], pyarrow.string())
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(getattr(pyarrow, kind)())
    return pyarrow.table({"id": range(len(column)), "text": column})


def _as_dump(documents):
    pages = "".join(
        f"<page><title>{i}</title><ns>0</ns><id>{i}</id><revision><text>{saxutils.escape(text)}</text></revision></page>"
        for i, text in enumerate("\n\n".join(document) for document in documents)
    )
    return f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">{pages}</mediawiki>'.encode()


WRITERS = {
    "text": _as_text, "jsonl": _as_jsonl, "wiki": _as_wiki, "parquet": _as_parquet, "arrow": _as_arrow,
    "arrow file": functools.partial(_as_arrow, new=ipc.new_file),
    "parquet bytes": functools.partial(_as_parquet, kind="large_binary", row_group_size=1, compression="zstd"),
    "parquet dictionary": functools.partial(_as_parquet, kind="dictionary", data_page_version="2.0"),
    "jsonl_utf8": functools.partial(_as_jsonl, ascii_only=False),
}  # fmt: skip
PACKERS = {"": bytes, "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd.compress}


def _read(raw, name, text_format="auto"):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / name
        path.write_bytes(raw)
        return list(sources.documents(sources.find([str(path)]), sources.Counts(), text_format=text_format))


def _check_written(drawn):
    """A file of documents is read as these documents, under any name."""
    documents, form, packer, suffix = drawn
    if form.startswith(("parquet", "arrow")):  # compressed inside, and read from its end
        packer = ""
    try:
        read = _read(PACKERS[packer](WRITERS[form](documents)), f"file{suffix}")
    except command.UserError:
        # Plain text may look like another format. Formats with a beginning of their own are never refused.
        if form != "text":
            raise AssertionError(f"{form} was refused") from None
        raise
    kept = [_plain("\n".join(document)) for document in documents]
    assert [_plain(document.text) for document in read] == kept, [document.text for document in read]


def _plain(text):
    """The text without white space, which readers may trim."""
    return "".join(text.split())


def _check_damaged(drawn):
    """A damaged file is refused, or it is read the same way twice and as whole documents."""
    raw, suffix, text_format = drawn
    first = _read(raw, f"file{suffix}", text_format)
    texts = [document.plain() for document in first]
    assert texts == [document.plain() for document in _read(raw, f"file{suffix}", text_format)]
    for text in texts:
        text.encode()  # half of a surrogate pair would be refused by any tokenizer


def whole_files():
    """Strategy of the bytes of a sound file of any format."""
    written = st.builds(
        lambda documents, write: write(documents), DOCUMENTS, st.sampled_from([*WRITERS.values(), _as_dump])
    )
    return st.builds(lambda raw, pack: pack(raw), written, st.sampled_from(list(PACKERS.values())))


def targets():
    """The targets of this file."""
    formats = st.sampled_from(("auto", "auto", "auto", *sources.FORMATS))
    suffix = st.sampled_from(SUFFIXES)
    written = st.tuples(DOCUMENTS, st.sampled_from(list(WRITERS)), st.sampled_from(list(PACKERS)), suffix)
    return [
        Target("text, written", written, _check_written, 2),
        Target("text, damaged", st.tuples(damaged.edits(whole_files()), suffix, formats), _check_damaged, 3),
    ]
