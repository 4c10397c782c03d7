"""An export exists only if PyTorch computes the same from it; an import is its inverse."""

import json
import sys

from helpers import small_bert
import jax
import numpy as np
import pytest
import transformers

from bert_tpu.core import command
from bert_tpu.export import pytorch
from bert_tpu.huggingface import config_json, hf, pretrained
from bert_tpu.inference import fill_mask
from bert_tpu.tokenizer import vocab
from bert_tpu.training import saved_params, workdir
from tools import export_pytorch, import_pytorch

FILES = {
    "model.safetensors", "config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "README.md",
}  # fmt: skip


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return small_bert.workdir(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "deep" / "model"
    pytorch.export(run, out)
    return out


def call(tool, monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["tool", *map(str, args)])
    command.run(tool.main)


def test_export_is_complete_and_its_card_has_the_facts(run, tmp_path):
    comparison = pytorch.export(run, tmp_path / "model").comparison
    assert 0 < comparison.difference < 1e-5
    assert {path.name for path in (tmp_path / "model").iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    readme = (tmp_path / "model" / "README.md").read_text()
    facts = [
        "L2 H64 A4",
        f"{small_bert.STEP} steps",
        "c0ffee",
        f"{comparison.difference:.1e}",
        transformers.__version__,
    ]
    for fact in facts:
        assert fact in readme
    params = hf.load(tmp_path / "model").params
    jax.tree.map(np.testing.assert_array_equal, params, small_bert.params())


def break_kernel(tensors):
    tensors["bert.encoder.layer.1.attention.output.dense.weight"][3, 5] += 0.3


def break_nsp(tensors):
    tensors["cls.seq_relationship.bias"][1] += 1e-3


def break_last_position(tensors):
    tensors["bert.embeddings.position_embeddings.weight"][-1] *= -1


def break_rare_piece(tensors):
    tensors["cls.predictions.bias"][-1] += 1e-3
    tensors["cls.predictions.decoder.bias"][-1] += 1e-3


def break_with_nan(tensors):
    tensors["bert.pooler.dense.bias"][0] = np.nan


def transpose_query(tensors):
    name = "bert.encoder.layer.0.attention.self.query.weight"
    tensors[name] = np.ascontiguousarray(tensors[name].T)


def drop_tensor(tensors):
    del tensors["bert.encoder.layer.0.output.LayerNorm.bias"]


def add_tensor(tensors):
    tensors["bert.novelty"] = np.ones(3, np.float32)


def reshape_tensor(tensors):
    tensors["bert.embeddings.token_type_embeddings.weight"] = np.ones((3, 64), np.float32)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (break_kernel, "MLM logits differ by up to"),
        (break_nsp, r"NSP logits differ by up to 0.001\b"),
        (break_last_position, "MLM logits differ by up to"),
        (break_rare_piece, r"MLM logits differ by up to 0.001\b"),
        (break_with_nan, "NSP logits differ by up to nan"),
        (transpose_query, "MLM logits differ by up to"),
        (drop_tensor, "missing_keys.*layer.0.output.LayerNorm.bias"),
        (add_tensor, "unexpected_keys.*bert.novelty"),
        (reshape_tensor, "mismatched_keys.*token_type_embeddings"),
    ],
)
def test_wrong_weights_are_not_exported(run, tmp_path, monkeypatch, edit, complaint):
    small_bert.spoil(monkeypatch, edit)
    with pytest.raises(command.UserError, match=complaint):
        pytorch.export(run, tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_existing_directory_is_left_alone_unless_empty(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(command.UserError, match="full exists and is not an empty directory"):
        pytorch.export(run, tmp_path / "full")
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    pytorch.export(run, tmp_path / "empty")
    assert {path.name for path in (tmp_path / "empty").iterdir()} == FILES


def test_export_without_pytorch_says_so(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert pytorch.export(run, tmp_path / "model").comparison is None
    warning = "warning: torch not installed, so the export is not compared with PyTorch; pip install 'bert_tpu[onnx]' "
    assert capsys.readouterr().err.startswith(warning)
    assert "not checked against PyTorch" in (tmp_path / "model" / "README.md").read_text()


def test_import_inverts_export_bit_for_bit(exported, run, tmp_path, monkeypatch, capsys):
    call(import_pytorch, monkeypatch, "--model", exported, "--out", tmp_path / "imported")
    imported = saved_params.load_params(tmp_path / "imported")
    jax.tree.map(np.testing.assert_array_equal, imported, saved_params.load_params(run))
    assert workdir.read_config(tmp_path / "imported")["model"] == small_bert.SECTION | config_json.HERE
    assert vocab.load(tmp_path / "imported" / "tokenizer") == small_bert.VOCAB
    assert "initialized" not in capsys.readouterr().out
    call(export_pytorch, monkeypatch, "--workdir", tmp_path / "imported", "--out", tmp_path / "again")
    for name in FILES - {"README.md"}:
        assert (tmp_path / "again" / name).read_bytes() == (exported / name).read_bytes()


def test_imported_encoder_gets_the_same_fresh_heads_each_time(exported, tmp_path, monkeypatch, capsys):
    encoder = transformers.BertModel.from_pretrained(exported, add_pooling_layer=False)
    encoder.save_pretrained(tmp_path / "encoder")
    vocab.save(small_bert.VOCAB, tmp_path / "encoder")
    for out in ("one", "two"):
        call(import_pytorch, monkeypatch, "--model", tmp_path / "encoder", "--out", tmp_path / out)
        assert "has no pooler, no mlm, no nsp: initialized from seed 0" in capsys.readouterr().out
    one, two = (saved_params.load_params(tmp_path / out) for out in ("one", "two"))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    np.testing.assert_array_equal(one["layers"]["up"]["kernel"][1], small_bert.params()["layer_1"]["up"]["kernel"])
    call(export_pytorch, monkeypatch, "--workdir", tmp_path / "one", "--out", tmp_path / "whole")
    assert "(drawn at random and not trained: pooler, mlm, nsp)" in capsys.readouterr().out
    card = (tmp_path / "whole" / "README.md").read_text()
    assert "pipeline_tag: feature-extraction" in card
    assert "none that is trained" in card
    assert pretrained.load(tmp_path / "one").absent == ("pooler", "mlm", "nsp")
    with pytest.raises(command.UserError, match="one has an encoder without an MLM head: it cannot fill a mask"):
        fill_mask.ready(pretrained.load(tmp_path / "one"), tmp_path / "one")


@pytest.mark.parametrize(
    ("tool", "options"),
    [
        (export_pytorch, ["--workdir", "nowhere"]),
        (import_pytorch, ["--model", "nowhere"]),
        (import_pytorch, []),
        (import_pytorch, ["--model", "nowhere", "--rows", "random"]),
    ],
)
def test_faults_end_in_one_sentence_and_status_1(tmp_path, monkeypatch, tool, options):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^error: [^\n]+$"):
        call(tool, monkeypatch, *options, "--out", "out")
    assert list(tmp_path.iterdir()) == []


def test_vocabulary_of_another_run_is_not_exported(run, tmp_path):
    other = small_bert.workdir(tmp_path / "run")
    vocab.save(small_bert.OTHER_VOCAB, other / "tokenizer")
    with pytest.raises(command.UserError, match="put the model's own vocabulary there"):
        pytorch.export(other, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_config_of_an_export_is_json_that_both_sides_read(exported):
    config = json.loads((exported / "config.json").read_text())
    assert (config["architectures"], config["hidden_act"]) == (["BertForPreTraining"], "gelu")
    assert transformers.AutoConfig.from_pretrained(exported).max_position_embeddings == 48
