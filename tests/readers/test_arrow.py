"""A column of an Arrow file gives its values, or one sentence says why not."""

import io
import random

from helpers import text_sources
import pytest

from bert_tpu.core import command
from bert_tpu.readers import arrow, sources

pyarrow = pytest.importorskip("pyarrow")
ipc = pytest.importorskip("pyarrow.ipc")

ROWS = [f"{i} words of a text; é 中" for i in range(400)]
TABLE = pyarrow.table({"n": range(400), "answer": [{"text": row} for row in ROWS], "text": ROWS})
FORMS = {"file": ipc.new_file, "stream": ipc.new_stream}


def packed(form, **options):
    """Returns the bytes of an Arrow file of four record batches."""
    file = io.BytesIO()
    with FORMS[form](file, TABLE.schema, options=ipc.IpcWriteOptions(**options)) as writer:
        for batch in TABLE.to_batches(100):
            writer.write_batch(batch)
    return file.getvalue()


def texts(raw, column="text"):
    return [value.decode() for value in arrow.texts(io.BytesIO(raw), "a.arrow", column)]


def complaint(raw, column="text"):
    with pytest.raises(command.UserError, match=r"a\.arrow") as raised:
        texts(raw, column)
    return str(raised.value)


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
@pytest.mark.parametrize("form", FORMS)
def test_both_forms_are_read(form, codec):
    raw = packed(form, compression=codec)
    assert texts(raw) == texts(raw, "answer.text") == ROWS
    assert complaint(raw, "n").endswith("column n is int64, not text; set --column to one of answer.text, text")


@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_known_by_its_beginning(tmp_path, form):
    (tmp_path / "a.txt").write_bytes(packed(form))
    assert text_sources.read(tmp_path / "a.txt")[0] == ROWS
    (tmp_path / "a.parquet").write_bytes(packed(form))
    assert text_sources.read(tmp_path / "a.parquet")[0] == ROWS
    (source,) = sources.find([str(tmp_path / "a.parquet")])
    with pytest.raises(command.UserError, match="is not a Parquet file: rename it"):
        list(sources.documents([source._replace(share=(0, 2))], sources.Counts()))


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_was_cut_or_lengthened_is_named(form):
    raw = packed(form)
    for size in (7, 8, len(raw) // 3, len(raw) - 9, len(raw) - 8, len(raw) - 1):
        assert "is damaged or not an Arrow file" in complaint(raw[:size])
    assert "is damaged or not an Arrow file" in complaint(packed("stream") + raw)


@pytest.mark.parametrize("form", FORMS)
def test_damage_loses_no_rows_unnoticed(form):
    raw, draw = packed(form), random.Random(0)
    for place in draw.sample(range(len(raw)), 200):
        damaged = raw[:place] + bytes([raw[place] ^ 1 << draw.randrange(8)]) + raw[place + 1 :]
        try:
            assert len(list(arrow.texts(io.BytesIO(damaged), "a.arrow", "text"))) == len(ROWS), place
        except command.UserError as error:
            assert "a.arrow" in str(error)  # noqa: PT017
