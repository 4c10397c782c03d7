"""A command that writes to a disk alone refuses a bucket, of which pathlib would make a folder named "gs:"."""

import importlib
import re
import sys

from conftest import ROOT
import pytest

from bert_tpu.core import command, storage

OPTION = re.compile(r'add_argument\(\s*"(--out|--workdir)"')
READ = ("demo_report", "export_onnx", "model_card", "push_to_hub")  # their --workdir is read
IN_A_BUCKET = ("prepare_corpus",)
WRITERS = [
    (path.stem, option)
    for path in sorted((ROOT / "tools").glob("[a-z]*.py"))
    for option in OPTION.findall(path.read_text())[-1:]
    if path.stem not in (*READ, *IN_A_BUCKET)
]


@pytest.mark.parametrize(("tool", "option"), WRITERS)
def test_a_bucket_is_refused_where_only_a_disk_is_written(tmp_path, monkeypatch, tool, option):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [tool, option, "gs://bucket/x"])
    with pytest.raises(command.UserError, match=r"^gs://bucket/x is in a bucket, where this cannot be written"):
        importlib.import_module(f"tools.{tool}").main()
    assert not list(tmp_path.iterdir())


def test_the_commands_that_write_are_found():
    assert {name for name, _ in WRITERS} > {"train_tokenizer", "import_pytorch", "glue", "embed", "report"}


@pytest.mark.parametrize("write", [storage.atomic_file, storage.atomic_directory])
def test_no_caller_writes_to_a_folder_named_as_a_bucket(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(command.UserError, match="is in a bucket"), write("gs://bucket/x"):
        pass
    assert not list(tmp_path.iterdir())
