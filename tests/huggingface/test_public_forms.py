"""Models in all the forms in which people keep them are read exactly, or refused by name."""

import functools
import json
import re
import shutil
import sys

from helpers import small_bert
import jax
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
import transformers

from bert_tpu.core import command
from bert_tpu.huggingface import hf, pretrained
from bert_tpu.inference import embed, fill_mask
from bert_tpu.training import orbax_setup
from tools import export_pytorch, import_pytorch

WORD, POSITION = "bert.embeddings.word_embeddings.weight", "bert.embeddings.position_embeddings.weight"
BIASES = ("cls.predictions.bias", "cls.predictions.decoder.bias")
SPARE = 3


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small_bert.save(tmp_path_factory.mktemp("model") / "saved", small_bert.SHALLOW)


@pytest.fixture
def saved(model, tmp_path):
    return shutil.copytree(model, tmp_path / "saved")


def edit_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def tensors_of(directory):
    return safetensors.numpy.load_file(directory / "model.safetensors")


def rewrite(directory, tensors):
    safetensors.numpy.save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})


def pad(directory, rows=SPARE):
    """Adds rows without a piece, which would win every prediction."""
    tensors = tensors_of(directory)
    tensors[WORD] = np.concatenate([tensors[WORD], np.full((rows, 64), 3, np.float32)])
    for name in BIASES:
        tensors[name] = np.append(tensors[name], np.full(rows, 99, np.float32))
    rewrite(directory, tensors)
    edit_config(directory, vocab_size=len(tensors[WORD]))
    return directory


def assert_same(loaded):
    jax.tree.map(np.testing.assert_array_equal, loaded.params, _params())


@functools.cache
def _params():
    return small_bert.params(small_bert.SHALLOW)


def call(tool, monkeypatch, *args):
    monkeypatch.setattr(sys, "argv", ["tool", *map(str, args)])
    monkeypatch.setattr(orbax_setup, "quiet", lambda: None)
    tool.main()


def test_rows_without_a_piece_are_never_used_and_named(saved, capsys):
    pad(saved)
    loaded = pretrained.load(saved)
    assert_same(loaded)
    assert loaded.model["vocab_size"] == len(small_bert.PIECES)
    rows = len(small_bert.PIECES) + SPARE
    assert capsys.readouterr().err.startswith(
        f"{saved} has {rows} rows for {rows - SPARE} pieces: the last 3 are never"
    )
    [guesses] = fill_mask.predict(fill_mask.load(saved), "the [MASK]", top_k=rows - SPARE)
    assert sum(guess.score for guess in guesses) == pytest.approx(1, abs=1e-5)
    with pytest.raises(command.UserError, match="the number of pieces"):
        fill_mask.predict(fill_mask.load(saved), "the [MASK]", top_k=rows)


@pytest.mark.parametrize("read", [hf.load, pretrained.load_origin, embed.load])
def test_tokens_without_rows_are_refused_with_the_call_that_adds_them(saved, read):
    added = {"content": "[E1]", **dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized", "special"), False)}
    path = saved / "tokenizer.json"
    full = json.loads(path.read_text())
    full["added_tokens"].append(added | {"id": len(small_bert.PIECES)})
    path.write_text(json.dumps(full))
    with pytest.raises(command.UserError, match=r"the last is '\[E1\]', but .*resize_token_embeddings"):
        read(saved)


def test_import_and_export_bring_every_tensor_of_a_padded_model_back(saved, tmp_path, monkeypatch):
    before = tensors_of(pad(saved))
    call(import_pytorch, monkeypatch, "--model", saved, "--out", tmp_path / "imported")
    call(export_pytorch, monkeypatch, "--workdir", tmp_path / "imported", "--out", tmp_path / "again")
    after = tensors_of(tmp_path / "again")
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name], tensor, err_msg=name)
    assert transformers.AutoConfig.from_pretrained(tmp_path / "again").vocab_size == len(before[WORD])
    assert_same(pretrained.load(tmp_path / "imported"))
    (tmp_path / "imported" / "spare_rows.safetensors").write_bytes(b"damaged")
    with pytest.raises(command.UserError, match=r"spare_rows.safetensors is damaged"):
        call(export_pytorch, monkeypatch, "--workdir", tmp_path / "imported", "--out", tmp_path / "third")


def test_a_padded_encoder_without_heads_comes_back_too(saved, tmp_path, monkeypatch):
    tensors = {name: tensor for name, tensor in tensors_of(pad(saved)).items() if name.startswith("bert.")}
    rewrite(saved, tensors)
    call(import_pytorch, monkeypatch, "--model", saved, "--out", tmp_path / "imported")
    call(export_pytorch, monkeypatch, "--workdir", tmp_path / "imported", "--out", tmp_path / "again")
    after = tensors_of(tmp_path / "again")
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(after[name], tensor, err_msg=name)


def split(directory, write, index, pattern):
    """Writes the model in three files and their index, and removes the one file."""
    tensors = tensors_of(directory)
    (directory / "model.safetensors").unlink()
    places = {name: pattern.format(1 + i % 3) for i, name in enumerate(sorted(tensors))}
    for file in set(places.values()):
        write({name: tensor for name, tensor in tensors.items() if places[name] == file}, directory / file)
    (directory / index).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return directory


def split_safetensors(directory):
    index, pattern = "model.safetensors.index.json", "model-{:05d}-of-00003.safetensors"
    return split(directory, safetensors.numpy.save_file, index, pattern)


def split_pickles(directory):
    def write(tensors, path):
        torch.save({name: torch.from_numpy(tensor) for name, tensor in tensors.items()}, path)

    return split(directory, write, "pytorch_model.bin.index.json", "pytorch_model-{:05d}-of-00003.bin")


@pytest.mark.parametrize("divide", [split_safetensors, split_pickles])
def test_a_model_in_several_files_is_read_whole_or_refused(saved, divide):
    divide(saved)
    assert_same(pretrained.load(saved))
    assert embed.load(saved).bert.num_layers == 1
    [second] = saved.glob("*-00002-of-00003*")
    kept = second.read_bytes()
    second.unlink()
    with pytest.raises(command.UserError, match=f"names 3 files, and {second.name} is not there"):
        hf.load(saved)
    second.write_bytes(next(saved.glob("*-00001-of-00003*")).read_bytes())
    with pytest.raises(command.UserError, match=f"{second.name} has not the tensors of"):
        hf.load(saved)
    second.write_bytes(kept)
    [index] = saved.glob("*.index.json")
    for text in ("[]", "{", '{"weight_map": {}}', '{"weight_map": {"a": "../b"}}', '{"weight_map": {"a": 1}}'):
        index.write_text(text)
        with pytest.raises(command.UserError, match="is not an index of files of weights"):
            hf.load(saved)
    index.unlink()
    with pytest.raises(command.UserError, match=r"several files without their index: fetch .*\.index\.json too"):
        hf.load(saved)


def compiled_layer(name):
    return name.replace("layer.0.", "layer.0._orig_mod.")


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.module.{name}",
        lambda name: f"model._fsdp_wrapped_module.{name}",
        lambda name: name.replace("bert.", "bert_model.", 1) if name.startswith("bert.") else name,
        lambda name: f"net.{name.removeprefix('bert.')}",
        lambda name: f"bert.{name}",
        compiled_layer,
    ],
    ids=["module", "_orig_mod.module", "fsdp", "bert_model", "net", "bert twice", "compiled layer"],
)
def test_a_prefix_of_every_name_is_taken_off(saved, rename):
    rewrite(saved, {rename(name): tensor for name, tensor in tensors_of(saved).items()})
    assert_same(hf.load(saved))


def test_a_fine_tuned_head_below_a_prefix_is_named(saved, capsys):
    tensors = {f"module.{n}": t for n, t in tensors_of(saved).items() if not n.startswith("cls.")}
    rewrite(saved, tensors | {"module.classifier.weight": np.ones((2, 64), np.float32)})
    assert hf.load(saved).absent == ("mlm", "nsp")
    assert "only its encoder is used, not its classifier" in capsys.readouterr().err


def test_the_state_in_a_training_programs_file_is_read(saved):
    state = {f"module.{name}": torch.from_numpy(tensor) for name, tensor in tensors_of(saved).items()}
    (saved / "model.safetensors").unlink()
    torch.save({"epoch": 3, "state_dict": state}, saved / "pytorch_model.bin")
    assert_same(hf.load(saved))
    torch.save({"state": {"model": state, "optimizers": {}}, "rng": []}, saved / "pytorch_model.bin")  # of Composer
    assert_same(hf.load(saved))
    torch.save({"epoch": 3, "weights": state}, saved / "pytorch_model.bin")
    with pytest.raises(command.UserError, match=r"is not a dictionary of tensors \(epoch, weights\)"):
        hf.load(saved)
    torch.save({"x": torch.ones(1).to_sparse()}, saved / "pytorch_model.bin")
    with pytest.raises(command.UserError, match="x is quantized or sparse"):
        hf.load(saved)


def test_objects_besides_tensors_are_never_run(saved):
    (saved / "model.safetensors").unlink()
    torch.save(torch.nn.Linear(2, 2), saved / "pytorch_model.bin")
    with pytest.raises(command.UserError, match=r"reading those would run their code: .*model.state_dict\(\) alone"):
        hf.load(saved)


def roberta(tensors):
    return {name.replace("bert.", "roberta.", 1): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda t: {f"a.{n}": x for n, x in t.items()} | t, r"several encoders \(a.bert.*, bert.*\)"),
        (lambda t: {n.replace(".", "/"): x for n, x in t.items()}, "has no .*position_embeddings.weight, but bert/"),
        (roberta, "is a RoBERTa"),
        (
            lambda t: {n.replace("query", "q"): x for n, x in t.items()},
            r"lacks bert.*query.* and has .*q.* instead",
        ),
        (
            lambda t: {n.replace("query", "query.base_layer"): x for n, x in t.items()},
            r"has LoRA's tensors \(.*\): merge them by merge_and_unload",
        ),
        (
            lambda t: {n: np.concatenate([x, x[:1]]) if "seq_rel" in n else x for n, x in t.items()},
            r"but next sentence prediction needs .*; save the encoder alone",
        ),
        (lambda t: t | {POSITION: t[POSITION].astype(np.int8)}, "stored as int8, as quantized weights are"),
        (lambda t: t | {POSITION: np.full_like(t[POSITION], np.nan)}, "values that are not finite"),
        (lambda t: t | {POSITION: t[POSITION] + np.float64(1e-12)}, "needs float64"),
    ],
)
def test_other_tensors_are_refused_by_name(saved, edit, complaint):
    rewrite(saved, edit(tensors_of(saved)))
    with pytest.raises(command.UserError, match=complaint):
        hf.load(saved)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model_type": "xlm-roberta"}, "describes an XLM-RoBERTa"),
        ({"model_type": "modernbert"}, "describes a ModernBERT"),
        ({"model_type": "gpt2"}, "describes another kind of model .model_type 'gpt2'"),
        ({"model_type": ["bert"]}, "describes another kind"),
        ({"add_cross_attention": True}, "add_cross_attention True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings False"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder True"),
        ({"pooler_type": "mean"}, "pooler_type 'mean'"),
        ({"quantization_config": {"bits": 4}}, "the weights are quantized"),
        ({"auto_map": {"AutoModel": "modeling.Mine"}}, "computed by code of its own"),
        ({"embedding_size": 32}, "embedding_size 32: only 64"),
        ({"head_dim": 8}, "head_dim 8: only 16"),
        ({"pruned_heads": {"0": [1]}}, "has unknown keys, pruned_heads"),
        ({"alibi_starting_size": 512, "novel": 1}, "unknown keys, alibi_starting_size 512, novel 1: take them out"),
        ({"do_lower_case": False}, "has do_lower_case false, .*tokenizer_config.json alone: move it there"),
        ({"num_hidden_layers": 3}, "has tensors of 1 layer, and its config.json num_hidden_layers 3: write 1 there"),
        ({"type_vocab_size": 0}, "type_vocab_size.*not valid: 0"),
        ({"num_hidden_layers": True}, "num_hidden_layers.*not valid: True"),
        ({"hidden_size": 64.0}, "hidden_size.*not valid: 64.0"),
        ({"layer_norm_eps": "1e-12"}, "layer_norm_eps.*not valid"),
        ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob.*not valid"),
        ({"hidden_act": "silu"}, "hidden_act 'silu': only gelu and gelu_new are computed"),
    ],
)
def test_every_key_of_a_config_is_understood_or_refused(saved, changes, complaint):
    edit_config(saved, **changes)
    with pytest.raises(command.UserError, match=complaint):
        hf.load(saved)


@pytest.mark.parametrize(("name", "same"), [("gelu_python", "gelu"), ("gelu_pytorch_tanh", "gelu_new")])
def test_other_names_of_an_activation_are_read(saved, name, same):
    x = torch.linspace(-9, 9, 1001)
    functions = transformers.activations.ACT2FN
    torch.testing.assert_close(functions[name](x), functions[same](x), rtol=1e-6, atol=1e-6)
    edit_config(saved, hidden_act=name)
    assert hf.load(saved).model["activation"] == same


def test_what_transformers_itself_writes_and_old_releases_wrote_is_known(saved):
    defaults = transformers.BertConfig().to_dict()
    old = {"directionality": "bidi", "pooler_fc_size": 768, "pooler_type": "first_token_transform", "output_past": True}
    old |= {
        "_num_labels": 2,
        "xla_device": True,
        "eos_token_ids": 0,
        "model_max_length": 512,
        "vocab_file": "vocab.txt",
    }
    old |= {"hidden_dropout": 0.1, "summary_type": "first", "transformers.js_config": {"dtype": "q8"}}
    harmless = {"head_dim": 16, "embedding_size": 64, "pruned_heads": {}, "novelty": None}
    kept = {key: value for key, value in json.loads((saved / "config.json").read_text()).items() if "size" in key}
    kept |= {"num_attention_heads": 4, "num_hidden_layers": 1, "max_position_embeddings": 48}
    edit_config(saved, **defaults | old | harmless | kept)
    assert_same(hf.load(saved))


@pytest.mark.parametrize("segments", [1, 16])
def test_other_numbers_of_segments_are_read_and_exported(tmp_path, monkeypatch, segments):
    section = small_bert.SHALLOW | {"type_vocab_size": segments}
    small_bert.save(tmp_path / "model", section)
    call(import_pytorch, monkeypatch, "--model", tmp_path / "model", "--out", tmp_path / "imported")
    call(export_pytorch, monkeypatch, "--workdir", tmp_path / "imported", "--out", tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "model" / "model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("tf_model.h5", b"x", "only tf_model.h5, weights for TensorFlow: .*from_tf=True"),
        ("flax_model.msgpack", b"x", "only flax_model.msgpack, weights for Flax: .*from_flax=True"),
        ("model-q4.gguf", b"x", "only model-q4.gguf, a file of llama.cpp"),
        ("model.onnx", b"x", "only model.onnx, an ONNX graph"),
        ("adapter_config.json", b"{}", "a PEFT adapter: merge it"),
        ("model_state.pdparams", b"x", "weights for PaddlePaddle: give the same model's files for PyTorch"),
        ("global_step100", b"x", "a checkpoint of DeepSpeed in parts: join them by its zero_to_fp32.py"),
        ("pytorch_model_fsdp_0", b"x", "a checkpoint of FSDP in parts: join them by accelerate merge-weights"),
        ("openvino_model.bin", b"x", "a graph for OpenVINO: give the model that it was exported from"),
        ("model.safetensors.incomplete", b"x", "an unfinished download: fetch it again"),
        ("best.safetensors", b"x", "only best.safetensors, weights under another name"),
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
        ("config.json", b"<?xml version='1.0'?>\n<!-- a page -->\n<html>", "config.json is a web page"),
        ("config.json", b'{"error":"Repository not found"}', "config.json is a server's error message; check"),
        ("model.safetensors", b"\n<!doctype html><html>", "model.safetensors is a web page; download the raw"),
        ("model.safetensors", b"Invalid username or password.", "model.safetensors is a server's error message"),
        ("none", b"", "has no weights: it has no model.safetensors, but config.json"),
    ],
)
@pytest.mark.parametrize("read", [hf.load, pretrained.load, pretrained.load_origin])
def test_other_files_are_refused_by_name(saved, read, file, content, complaint):
    (saved / "model.safetensors").unlink()
    (saved / file).write_bytes(content)
    with pytest.raises(command.UserError, match=complaint):
        read(saved)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json"]
)
@pytest.mark.parametrize("read", [hf.load, pretrained.load_origin])
def test_a_link_without_its_file_is_named_and_no_file_is_taken_for_absent(saved, read, name):
    (saved / name).unlink()
    (saved / name).symlink_to("../../blobs/4d7a")
    with pytest.raises(command.UserError, match=rf"{name} is a link to a file that does not exist, .*hf download"):
        read(saved)


def test_a_type_that_numpy_lacks_is_refused(saved):
    tensors = {name: torch.from_numpy(tensor) for name, tensor in tensors_of(saved).items()}
    safetensors.torch.save_file(tensors | {WORD: tensors[WORD].to(torch.float8_e4m3fn)}, saved / "model.safetensors")
    with pytest.raises(command.UserError, match=r"float8_e4m3fn.*: give the model in float32"):
        hf.load(saved)


@pytest.mark.parametrize("read", [hf.load, pretrained.load])
def test_a_place_without_a_model_is_named(saved, tmp_path, read):
    with pytest.raises(command.UserError, match=r"there is no google/bert: .*hf download .* --local-dir"):
        read("google/bert")
    with pytest.raises(command.UserError, match=r"there is no /absent/model: give [^;]*$"):
        read("/absent/model")
    with pytest.raises(command.UserError, match=r"model.safetensors is a file: give"):
        read(saved / "model.safetensors")
    cache = tmp_path / "models--x--y"
    saved.rename(cache.mkdir() or cache / "abc")
    with pytest.raises(command.UserError, match=r"has no config.json.*: give .*models--x--y/abc, which has one"):
        read(cache)
    (tmp_path / "outer" / "1_Pooling").mkdir(parents=True)
    (tmp_path / "outer" / "1_Pooling" / "config.json").write_text("{}")
    (tmp_path / "outer" / "modules.json").write_text("[]")
    (cache / "abc").rename(tmp_path / "outer" / "0_Transformer")
    with pytest.raises(command.UserError, match=r"sentence-transformers model.*: give .*outer/0_Transformer"):
        read(tmp_path / "outer")


def test_a_folder_around_a_model_and_the_name_of_a_checkpoint_lead_to_the_model(tmp_path):
    inner = small_bert.save(tmp_path / "old" / "0_BERT", small_bert.SHALLOW)
    (tmp_path / "old" / "modules.json").write_text("[]")
    (tmp_path / "old" / "config.json").write_text('{"__version__": "0.3"}')
    google = tmp_path / "zip" / "uncased_L-1"
    google.mkdir(parents=True)
    (google / "bert_config.json").write_text("{}")
    (google / "bert_model.ckpt.index").touch()
    for given, wanted in ((inner.parent, inner), (google.parent, google), (google / "bert_model.ckpt", google)):
        with pytest.raises(command.UserError, match=f"give (its folder, )?{re.escape(str(wanted))}"):
            hf.load(given)
