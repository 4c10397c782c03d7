"""Weights survive a trip to Hugging Face's names and back, and directories without a BERT are refused."""

import json
import os
import sys

from etils import epath
from helpers import small_bert
import jax
import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
import transformers

from bert_tpu.core import command
from bert_tpu.huggingface import config_json, hf, tensor_names
from bert_tpu.model import transformer
from bert_tpu.tokenizer import vocab


@pytest.fixture
def saved(tmp_path):
    return small_bert.save(tmp_path / "saved")


def torch_model(cls, **changes):
    """A model of transformers with random weights and no constant among them."""
    torch.manual_seed(0)
    theirs = {
        config_json.CONFIG[ours]: value for ours, value in small_bert.SECTION.items() if ours in config_json.CONFIG
    }
    model = cls(transformers.BertConfig(**theirs), **changes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def save_torch(model, directory):
    model.save_pretrained(directory)
    vocab.save(small_bert.VOCAB, directory)
    return directory


def assert_equal(params, others):
    jax.tree.map(np.testing.assert_array_equal, params, others)


def edit_config(directory, **changes):
    path = directory / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_tensors(directory, edit):
    path = directory / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    edit(tensors)
    safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})


def test_transformers_loads_every_tensor_and_misses_none(saved):
    loaded, info = transformers.BertForPreTraining.from_pretrained(saved, output_loading_info=True)
    assert not any(info.values()), info
    theirs = {name: tensor.numpy() for name, tensor in loaded.state_dict().items()}
    ours = tensor_names.to_hf(small_bert.params())
    assert theirs.keys() - ours.keys() == {"cls.predictions.decoder.weight"}
    for name, tensor in ours.items():
        np.testing.assert_array_equal(theirs[name], tensor, err_msg=name)
    assert loaded.cls.predictions.decoder.weight is loaded.bert.embeddings.word_embeddings.weight
    assert loaded.cls.predictions.decoder.bias is loaded.cls.predictions.bias


def test_each_dropout_has_its_name_in_transformers(tmp_path):
    config = transformers.BertConfig(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.3)
    section = {key: getattr(config, name) for key, name in config_json.CONFIG.items()}
    assert (section["dropout"], section["attention_dropout"]) == (0.2, 0.3)


def test_what_was_saved_comes_back_bit_for_bit(saved):
    loaded = hf.load(saved)
    assert_equal(loaded.params, small_bert.params())
    assert loaded.model == small_bert.SECTION | config_json.HERE
    assert loaded.vocab == small_bert.VOCAB
    assert loaded.absent == ()


def test_tokenizer_knows_how_many_tokens_the_model_takes(saved):
    assert transformers.AutoTokenizer.from_pretrained(saved).model_max_length == 48


def test_others_may_read_the_weights(saved):
    modes = {path.stat().st_mode for path in saved.iterdir()}
    assert len(modes) == 1


def test_model_saved_by_transformers_has_the_same_logits_here(tmp_path):
    model = torch_model(transformers.BertForPreTraining)
    loaded = hf.load(save_torch(model, tmp_path))
    batch = small_bert.batch()
    inputs = [batch[name] for name in ("input_ids", "token_type_ids", "attention_mask")]
    logits = transformer.Bert(**loaded.model).apply({"params": loaded.params}, *inputs, batch["masked_positions"])
    with torch.no_grad():
        theirs = model(
            input_ids=torch.from_numpy(inputs[0]).long(),
            token_type_ids=torch.from_numpy(inputs[1]).long(),
            attention_mask=torch.from_numpy(inputs[2]).long(),
        )
    mlm = np.take_along_axis(theirs.prediction_logits.numpy(), batch["masked_positions"][..., None], axis=1)
    np.testing.assert_allclose(logits.mlm_BMV, mlm, rtol=0, atol=2e-5)
    np.testing.assert_allclose(logits.nsp_BC, theirs.seq_relationship_logits.numpy(), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("cls", "changes", "absent"),
    [
        (transformers.BertForPreTraining, {}, ()),
        (transformers.BertForMaskedLM, {}, ("pooler", "nsp")),
        (transformers.BertForNextSentencePrediction, {}, ("mlm",)),
        (transformers.BertModel, {}, ("mlm", "nsp")),
        (transformers.BertModel, {"add_pooling_layer": False}, ("pooler", "mlm", "nsp")),
        (transformers.BertForSequenceClassification, {}, ("mlm", "nsp")),
        (transformers.BertForMultipleChoice, {}, ("mlm", "nsp")),
        (transformers.BertForTokenClassification, {}, ("pooler", "mlm", "nsp")),
        (transformers.BertForQuestionAnswering, {}, ("pooler", "mlm", "nsp")),
    ],
)
def test_encoder_comes_without_some_heads(tmp_path, cls, changes, absent):
    model = torch_model(cls, **changes)
    loaded = hf.load(save_torch(model, tmp_path))
    assert loaded.absent == absent
    full = hf.complete(loaded)
    assert jax.tree.map(np.shape, full) == jax.tree.map(np.shape, small_bert.params())
    assert_equal({key: full[key] for key in loaded.params}, loaded.params)
    assert_equal(full, hf.complete(loaded))
    word = model.base_model.embeddings.word_embeddings.weight.detach().numpy()
    np.testing.assert_array_equal(full["embeddings"]["word"], word)


@pytest.mark.parametrize(
    ("cls", "head"),
    [
        (transformers.BertForSequenceClassification, "classifier"),
        (transformers.BertForQuestionAnswering, "qa_outputs"),
    ],
)
def test_a_fine_tuned_head_is_ignored_with_one_line(tmp_path, capsys, cls, head):
    save_torch(torch_model(cls), tmp_path)
    capsys.readouterr()  # output of transformers
    hf.load(tmp_path)
    assert capsys.readouterr().err == f"{tmp_path} is fine-tuned: only its encoder is used, not its {head}\n"


def test_old_names_and_the_saved_positions_are_read(saved):
    def age(tensors):
        for name in [name for name in tensors if "LayerNorm" in name]:
            tensors[name.replace("weight", "gamma").replace("bias", "beta")] = tensors.pop(name)
        tensors["bert.embeddings.position_ids"] = np.arange(48)[None]
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
        del tensors["cls.predictions.bias"]

    edit_tensors(saved, age)
    assert_equal(hf.load(saved).params, small_bert.params())


def test_config_of_2018_is_read(saved):
    path = saved / "config.json"
    late = ("model_type", "layer_norm_eps", "position_embedding_type", "architectures", "pad_token_id")
    config = json.loads(path.read_text())
    path.write_text(json.dumps({key: config[key] for key in config.keys() - set(late)}))
    assert hf.load(saved).model == small_bert.SECTION | config_json.HERE


def test_pickled_weights_are_read_where_torch_is(saved, monkeypatch):
    tensors = safetensors.torch.load_file(saved / "model.safetensors")
    torch.save(tensors, saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    assert_equal(hf.load(saved).params, small_bert.params())
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(command.UserError, match="bin needs PyTorch"):
        hf.load(saved)


def test_half_precision_weights_become_float32(saved):
    tensors = safetensors.torch.load_file(saved / "model.safetensors")
    half = {name: tensor.bfloat16() for name, tensor in tensors.items()}
    safetensors.torch.save_file(half, saved / "model.safetensors")
    loaded = hf.load(saved).params
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype(np.float32)}
    jax.tree.map(lambda read, full: np.testing.assert_allclose(read, full, rtol=2**-8), loaded, small_bert.params())


WORD = "bert.embeddings.word_embeddings.weight"


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda d: edit_config(d, model_type="roberta"), "describes a RoBERTa .model_type .roberta"),
        (lambda d: edit_config(d, position_embedding_type="relative_key"), "type 'relative_key'"),
        (lambda d: edit_config(d, is_decoder=True), "is_decoder True"),
        (lambda d: edit_config(d, hidden_act="relu"), "config.json has hidden_act 'relu'"),
        (lambda d: edit_config(d, hidden_size=None), "lacks hidden_size"),
        (lambda d: edit_config(d, hidden_size="64"), "hidden_size.*is not valid"),
        (lambda d: edit_config(d, num_attention_heads=5), "config.json: .*num_heads 5"),
        (lambda d: edit_config(d, num_hidden_layers=3), r"tensors of 2 layers.*num_hidden_layers 3"),
        (lambda d: edit_config(d, num_hidden_layers=1), r"tensors of 2 layers.*num_hidden_layers 1"),
        (
            lambda d: edit_config(d, intermediate_size=95),
            r"dense.weight is \(64, 96\), but .* asks for \(64, 95\)",
        ),
        (
            lambda d: edit_tensors(d, lambda t: t.pop("cls.seq_relationship.bias")),
            "lacks cls.seq_relationship",
        ),
        (lambda d: edit_tensors(d, lambda t: t.update(extra=np.ones(1))), "has extra"),
        (lambda d: edit_tensors(d, lambda t: t.update({WORD: t[WORD][:-1]})), "word_embeddings.weight is"),
        (
            lambda d: edit_tensors(d, lambda t: t.update({"cls.predictions.decoder.weight": t[WORD] + 1})),
            "decoder.weight differs from bert.embeddings",
        ),
        (lambda d: (d / "config.json").unlink(), "config.json does not exist"),
        (lambda d: (d / "config.json").write_text("[]"), "config.json is not a JSON object"),
        (lambda d: (d / "config.json").write_text('{"model": {}}'), "is the workdir of a run: .*bert-tpu export"),
        (lambda d: (d / "config.json").write_text("{"), "config.json is not a JSON object"),
        (lambda d: (d / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda d: os.truncate(d / "model.safetensors", 100_000), "model.safetensors is damaged"),
        (lambda d: os.truncate(d / "model.safetensors", 0), "model.safetensors is damaged"),
        (lambda d: (d / "tokenizer.json").unlink() or (d / "vocab.txt").unlink(), "no vocab.txt"),
        (lambda d: vocab.save(small_bert.OTHER_VOCAB, d), "tokens, the last is 'new', but the model has rows for"),
    ],
)
def test_a_directory_without_a_bert_is_refused_in_a_sentence(saved, spoil, complaint):
    spoil(saved)
    with pytest.raises(command.UserError, match=complaint) as refusal:
        hf.load(saved)
    assert str(saved) in str(refusal.value)


def test_damaged_pickle_is_refused(saved):
    (saved / "model.safetensors").unlink()
    (saved / "pytorch_model.bin").write_bytes(b"no pickle")
    with pytest.raises(command.UserError, match=r"bin (cannot be read|is damaged)"):
        hf.load(saved)


def test_vocabulary_of_another_size_is_not_saved(tmp_path):
    with pytest.raises(command.UserError, match="put the model's own vocabulary there"):
        hf.save(tmp_path / "out", small_bert.params(), small_bert.SECTION, small_bert.OTHER_VOCAB)
    assert not (tmp_path / "out").exists()


def test_a_path_with_the_letters_of_a_glob_is_missing(tmp_path):
    for name in ("**", "[a*", "?"):
        assert hf.missing(epath.Path(tmp_path / name), "a model").startswith(f"there is no {tmp_path / name}: give")
