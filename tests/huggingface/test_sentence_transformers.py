"""A user of a sentence-transformers directory learns where its own vectors are others."""

import json
import sys

from helpers import small_bert
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.huggingface import hf, pretrained, sentence_transformers
from bert_tpu.inference import embed, fill_mask
from bert_tpu.tokenizer import vocab
from bert_tpu.training import orbax_setup
from tools import embed as tool
from tools import prepare_corpus

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


def notes(model, pool, *, max_positions=64):
    return sentence_transformers.notes(model, pool, max_positions=max_positions)


CLS = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
MEAN = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}


@pytest.mark.parametrize(
    ("pooling", "pool", "remark"),
    [
        (MEAN, "mean", None),
        (CLS, "cls", None),
        (CLS, "tokens", None),
        ({"pooling_mode": "cls"}, "cls", None),
        (CLS, "mean", "pools by cls: give --pool cls"),
        (MEAN, "cls", "pools by mean: give --pool mean"),
        ({"pooling_mode_max_tokens": True}, "mean", "pools by max_tokens"),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "mean", "pools by cls and mean"),
    ],
)
def test_another_pooling_is_named(tmp_path, pooling, pool, remark):
    found = notes(write(tmp_path / "model", MODULES[:2], **pooling), pool)
    assert found == ([f"{tmp_path / 'model'} as sentence-transformers uses it {remark}"] if remark else [])


def test_what_is_not_done_to_texts_and_vectors_is_named(tmp_path):
    model = write(tmp_path / "model", **MEAN)
    (model / "sentence_bert_config.json").write_text('{"do_lower_case": true, "max_seq_length": 32}')
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (model / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    cut, prompted, scaled = notes(model, "mean")
    assert "cuts texts to 32 tokens" in cut
    assert "puts 'query: ' before each text" in prompted
    assert "length 1" in scaled
    assert notes(model, "mean", max_positions=32) == [prompted, scaled]
    assert notes(model, "tokens") == [cut, prompted]


def test_the_cut_is_read_where_release_6_writes_it_and_a_prompt_may_not_be_pooled(tmp_path, monkeypatch):
    model = write(tmp_path / "model", include_prompt=False, **MEAN)
    (model / "sentence_bert_config.json").write_text("{}")
    (model / "tokenizer_config.json").write_text('{"model_max_length": 16}')
    prompts = {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    (model / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    cut, prompted, _ = notes(model, "mean")
    assert "cuts texts to 16 tokens (tokenizer_config.json)" in cut
    assert prompted.endswith("leaves its tokens out of the vector, which is not done here")
    monkeypatch.chdir(model)
    assert len(notes(".", "mean")) == 3


@pytest.mark.parametrize("read", [hf.load, pretrained.load, embed.load, fill_mask.load])
def test_lower_casing_that_the_tokenizer_does_not_is_named_wherever_the_model_is_read(tmp_path, capsys, read):
    model = tmp_path / "model"
    hf.save(model, small_bert.params(small_bert.SHALLOW), small_bert.SHALLOW, small_bert.VOCAB._replace(lower=False))
    (model / "sentence_bert_config.json").write_text('{"do_lower_case": false}')
    read(model)
    assert capsys.readouterr().err == ""
    (model / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    read(model)
    assert "lower-cases texts (sentence_bert_config.json), which is not done here" in capsys.readouterr().err
    small_bert.save(model, small_bert.SHALLOW)  # whose tokenizer does
    read(model)
    assert capsys.readouterr().err == ""


def test_a_corpus_by_such_a_models_tokenizer_is_warned_about(tmp_path, monkeypatch, capsys):
    vocab.save(small_bert.VOCAB._replace(lower=False), tmp_path / "model")
    (tmp_path / "model" / "sentence_bert_config.json").write_text('{"do_lower_case": true}')
    options = [
        "--input",
        str(tmp_path / "none"),
        "--tokenizer",
        str(tmp_path / "model"),
        "--out",
        str(tmp_path / "out"),
    ]
    monkeypatch.setattr(sys, "argv", ["tool", *options])
    with pytest.raises(command.UserError, match="none"):
        prepare_corpus.main()
    assert "warning: " in (printed := capsys.readouterr().out)
    assert "lower-cases texts (sentence_bert_config.json), which is not done here" in printed


def test_an_encoder_below_the_modules_is_that_of_the_model(tmp_path):
    model = write(tmp_path / "model", **CLS)
    modules = json.loads((model / "modules.json").read_text())
    modules[0]["path"] = "0_BERT"
    (model / "modules.json").write_text(json.dumps(modules))
    for name in ("0_BERT", "other"):
        (model / name).mkdir()
    assert len(notes(model / "0_BERT", "mean")) == 2
    assert notes(model / "other", "mean") == []


def test_layers_after_the_pooling_are_named_and_damaged_files_refused(tmp_path):
    model = write(tmp_path / "model", (*MODULES, "Dense"), **MEAN)
    assert "layers after the encoder that are not computed here (Dense)" in notes(model, "mean")[0]
    for name in ("1_Pooling/config.json", "modules.json"):
        (model / name).write_text("{")
        with pytest.raises(command.UserError, match=f"{name} is not what sentence-transformers writes"):
            notes(model, "mean")
    assert notes(tmp_path, "mean") == []


def test_embed_prints_it(tmp_path, monkeypatch, capsys):
    model = small_bert.save(write(tmp_path / "model", **CLS), small_bert.SHALLOW)
    (tmp_path / "lines").write_text("the cat\nthe [MASK] sat\n")
    arguments = ["--model", model, "--input", tmp_path / "lines", "--out", tmp_path / "x.npy"]
    monkeypatch.setattr(sys, "argv", ["tool", *map(str, arguments)])
    monkeypatch.setattr(orbax_setup, "quiet", lambda: None)
    tool.main()
    printed = capsys.readouterr().err
    assert "give --pool cls" in printed
    assert "such as [MASK], are in 1 of the lines" in printed


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_sentence_transformers_gives_the_vectors_of_embed(tmp_path, pool):
    """Also of a text that is longer than the model, and of an empty one."""
    library = pytest.importorskip("sentence_transformers")
    model = small_bert.save(tmp_path / "model", small_bert.SHALLOW)
    sentence_transformers.write(model, pool)
    texts = ["the cat sat on the mat", "Big red TREE!", "it " * 99, ""]
    (tmp_path / "lines").write_text("".join(text + "\n" for text in texts))
    embed.write(embed.load(model, pool=pool), tmp_path / "lines", tmp_path / "x.npy")
    theirs = library.SentenceTransformer(str(model), device="cpu").encode(texts, show_progress_bar=False)
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), theirs, atol=1e-5)
    assert notes(model, pool, max_positions=small_bert.SHALLOW["max_positions"]) == []
