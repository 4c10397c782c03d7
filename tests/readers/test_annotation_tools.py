"""Exports of annotation tools are read only if their labels are what annotators have accepted."""

import json

import pytest

from bert_tpu.core import command
from bert_tpu.readers import tabular


def rows(folder, *objects):
    path = folder / "x.jsonl"
    path.write_text("".join(f"{json.dumps(each)}\n" for each in objects))
    return path


def test_rows_that_were_rejected_in_prodigy_are_refused(tmp_path):
    accepted, rejected = ({"text": "a", "label": "x", "answer": answer} for answer in ("accept", "reject"))
    path = rows(tmp_path, accepted, rejected, accepted)
    with pytest.raises(command.UserError, match=r"x.jsonl line 2 has 'reject' under 'answer', as 1 of 3 rows"):
        tabular.read(path, ("text", "label"))
    assert tabular.read(path, ("text", "answer")).values["answer"] == ["accept", "reject", "accept"]
    assert tabular.read(rows(tmp_path, accepted, accepted), ("text", "label")).values["label"] == ["x", "x"]
    other = {"text": "a", "label": "x", "answer": "yes"}
    assert tabular.read(rows(tmp_path, other, rejected), ("text", "label")).values["label"] == ["x", "x"]


def test_the_whole_json_of_label_studio_is_refused_by_name(tmp_path):
    task = {"id": 1, "annotations": [{"result": []}], "data": {"text": "a"}}
    with pytest.raises(command.UserError, match=r"is Label Studio's JSON .*; export it as JSON-MIN or CSV"):
        tabular.read(rows(tmp_path, task | {"meta": 1}), ("text", "label"))
