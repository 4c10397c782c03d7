"""A user of a sentence-transformers directory learns where its own vectors are others."""

import json
import sys

from helpers import small_bert
import pytest

from bert_tpu.core import command
from bert_tpu.huggingface import sentence_transformers
from bert_tpu.training import orbax_setup
from tools import embed as tool

MODULES = ("Transformer", "Pooling", "Normalize")


def write(folder, kinds=MODULES, **pooling):
    (folder / "1_Pooling").mkdir(parents=True)
    content = [
        {"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else "", "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(content))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 64} | pooling))
    return folder


CLS = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


@pytest.mark.parametrize(
    ("pooling", "pool", "remark"),
    [
        (MEAN, "mean", ""),
        (CLS, "cls", ""),
        (CLS, "tokens", ""),
        ({"pooling_mode": "cls"}, "cls", ""),
        (CLS, "mean", "pools by cls: give --pool cls"),
        (MEAN, "cls", "pools by mean: give --pool mean"),
        ({"pooling_mode_max_tokens": True}, "mean", "pools by max_tokens"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "mean", "pools by cls and mean"),
    ],
)
def test_another_pooling_is_named(tmp_path, pooling, pool, remark):
    note = sentence_transformers.note(write(tmp_path / "model", **pooling), pool)
    assert note == (remark and f"{tmp_path / 'model'} as sentence-transformers uses it {remark}")


def test_layers_after_the_pooling_are_named_and_damaged_files_refused(tmp_path):
    model = write(tmp_path / "model", (*MODULES, "Dense"), **MEAN)
    assert "layers after the encoder that are not computed here (Dense)" in sentence_transformers.note(model, "mean")
    for name in ("1_Pooling/config.json", "modules.json"):
        (model / name).write_text("{")
        with pytest.raises(command.UserError, match=f"{name} is not what sentence-transformers writes"):
            sentence_transformers.note(model, "mean")
    assert sentence_transformers.note(tmp_path, "mean") == ""


def test_embed_prints_it(tmp_path, monkeypatch, capsys):
    model = small_bert.save(write(tmp_path / "model", **CLS), small_bert.SHALLOW)
    (tmp_path / "lines").write_text("the cat\n")
    arguments = ["--model", model, "--input", tmp_path / "lines", "--out", tmp_path / "x.npy"]
    monkeypatch.setattr(sys, "argv", ["tool", *map(str, arguments)])
    monkeypatch.setattr(orbax_setup, "quiet", lambda: None)
    tool.main()
    assert "give --pool cls" in capsys.readouterr().err
