"""A run starts only from weights of the model that it trains; others are refused with every difference."""

import json
import shutil
import sys

from helpers import small_bert, tiny_runs
import jax
import numpy as np
import pytest
import torch
import transformers

from bert_tpu.core import command, config
from bert_tpu.corpus import prepare
from bert_tpu.distributed import mesh as meshes
from bert_tpu.huggingface import pretrained
from bert_tpu.model import param_layout, transformer
from bert_tpu.pretrain import pretraining
from bert_tpu.tokenizer import normalization, vocab
from bert_tpu.training import checkpoint, orbax_setup, saved_params, train_step, trainer
from tools import import_pytorch

KINDS = ("hugging_face", "import", "workdir", "workdir/checkpoints/7", "workdir/checkpoints", "workdir/nonfinite")
SAME = {f"model.{key}": value for key, value in small_bert.SECTION.items()}


@pytest.fixture(scope="module")
def keys(text_file, tmp_path_factory):
    """Keys of a run of the BERT of helpers.small_bert on a corpus of its tokenizer."""
    root = tmp_path_factory.mktemp("start")
    vocab.save(small_bert.VOCAB, root / "tokenizer")
    prepare.prepare([str(text_file)], root / "tokenizer", root / "corpus", heldout=0.1, workers=1)
    return tiny_runs.keys(root / "corpus", tmp_path_factory) | SAME


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The same BERT in each form of KINDS."""
    root = tmp_path_factory.mktemp("models")
    small_bert.save(root / "hugging_face")
    imported(root / "hugging_face", root / "import")
    run = small_bert.workdir(root / "workdir")
    saved_params.save_params(run / "nonfinite", param_layout.pack(small_bert.params()))
    return root


def imported(source, out):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["import_pytorch", "--model", str(source), "--out", str(out)])
        patch.setattr(orbax_setup, "quiet", lambda: None)  # it is for a process that ends
        import_pytorch.main()


def refusal(keys, init_from, tmp_path, monkeypatch, **changes):
    """Returns the error by which a run is refused before it compiles anything."""
    monkeypatch.setattr(train_step, "compile_programs", lambda *_, **__: pytest.fail("another model was accepted"))
    with pytest.raises(command.UserError) as refused:
        pretraining.run(tiny_runs.configured(keys, init_from=str(init_from), **changes), tmp_path / "run")
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_heads", 2, "num_heads is 4 there and 2 here"),
        ("activation", "gelu_new", "activation is 'gelu' there and 'gelu_new' here"),
        ("layer_norm_eps", 1e-5, "layer_norm_eps is 1e-12 there and 1e-05 here"),
        ("max_positions", 40, "max_positions is 48 there and 40 here"),
        ("type_vocab_size", 3, "type_vocab_size is 2 there and 3 here"),
        ("hidden_size", 32, "hidden_size is 64 there and 32 here"),
        ("intermediate_size", 64, "intermediate_size is 96 there and 64 here"),
        ("num_layers", 1, "num_layers is 2 there and 1 here"),
    ],
)
def test_another_model_is_refused_by_name(keys, models, tmp_path, monkeypatch, kind, key, value, message):
    sentence = refusal(keys, models / kind, tmp_path, monkeypatch, **{f"model.{key}": value})
    assert sentence.startswith(f"{models / kind} is another model: {message}; give --config.model.{key}=")


def test_all_differences_are_in_one_sentence_with_the_flags_that_remove_them(keys, models, tmp_path, monkeypatch):
    changes = {"model.num_heads": 2, "model.activation": "gelu_new", "model.layer_norm_eps": 1e-5}
    sentence = refusal(keys, models / "workdir", tmp_path, monkeypatch, **changes)
    for part in (
        "num_heads is 4 there and 2 here", "activation is 'gelu' there and 'gelu_new' here", "1e-12 there and 1e-05",
        "--config.model.num_heads=4 --config.model.activation=gelu --config.model.layer_norm_eps=1e-12",
        "bert:like", "hidden_act",
    ):  # fmt: skip
        assert part in sentence
    words = [word for word in sentence.replace(",", " ").split() if word.startswith("--config.model.")]
    cfg = config.load_changed(
        tiny_runs.FILE, [f"--config.{key}={value}" for key, value in (keys | changes).items()] + words
    )
    assert {f"model.{key}": cfg.model[key] for key in pretrained.MEANING}.items() <= keys.items()


def swapped(pieces):
    """The same pieces, two of them in each other's place."""
    a, b = pieces.index("cat"), pieces.index("dog")
    order = list(pieces)
    order[a], order[b] = order[b], order[a]
    return tuple(order)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (
            vocab.Vocab(swapped(small_bert.PIECES), lower=True),
            "2 pieces of its tokenizer differ from the corpus', id ",
        ),
        (vocab.Vocab(small_bert.PIECES, lower=False), "its tokenizer keeps case and the corpus' lowers text"),
        (
            small_bert.VOCAB._replace(rules=normalization.BERT_TOKENIZER._replace(strip_accents=False)),
            "its tokenizer keeps accents and the corpus' drops accents",
        ),
    ],
    ids=["other pieces", "other case", "other accents"],
)
def test_another_tokenizer_of_the_same_size_is_refused(keys, models, tmp_path, monkeypatch, kind, other, message):
    place = tmp_path / "model"
    shutil.copytree(models / kind.split("/")[0], place)
    folder = place if kind == "hugging_face" else place / "tokenizer"
    vocab.save(other, folder)
    start = place.joinpath(*kind.split("/")[1:])
    sentence = refusal(keys, start, tmp_path, monkeypatch)
    assert sentence.startswith(f"{start} is another model: {message}")
    assert f"prepare the corpus with --tokenizer {folder}, or give a copy of the model the corpus' pieces" in sentence
    assert sentence.endswith(f"--model {start} --tokenizer {keys['data.dir']} --out COPY")


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_mean_the_same_have_pytorchs_logits_at_step_0(keys, models, tmp_path, kind):
    free = {"model.dropout": 0.0, "model.remat": True, "seed": 5}
    cfg = tiny_runs.configured(keys, init_from=str(models / kind), **free)
    job, mesh = pretraining.make_job(cfg), meshes.make(jax.devices())
    checkpoints = checkpoint.Checkpoints(directory=tmp_path, **cfg.checkpoint)
    state, _ = trainer.restore_or_init(job, mesh, checkpoints, pretraining.training(cfg).first_params)
    checkpoints.close()
    params = param_layout.unpack(jax.device_get(state.params), cfg.model.vocab_size)
    batch = small_bert.batch()
    inputs = [batch[name] for name in ("input_ids", "token_type_ids", "attention_mask", "masked_positions")]
    with jax.default_matmul_precision("highest"):
        logits = transformer.Bert(**cfg.model, parent=None).apply({"params": params}, *inputs)
    theirs = transformers.BertForPreTraining.from_pretrained(models / "hugging_face").eval()
    with torch.no_grad():
        outputs = theirs(
            input_ids=torch.from_numpy(batch["input_ids"]).long(),
            token_type_ids=torch.from_numpy(batch["token_type_ids"]).long(),
            attention_mask=torch.from_numpy(batch["attention_mask"]).long(),
        )
    mlm = np.take_along_axis(outputs.prediction_logits.numpy(), batch["masked_positions"][..., None], axis=1)
    np.testing.assert_allclose(logits.mlm_BMV, mlm, rtol=0, atol=2e-5)
    np.testing.assert_allclose(logits.nsp_BC, outputs.seq_relationship_logits.numpy(), rtol=0, atol=2e-5)


def test_heads_that_the_model_lacks_are_those_of_a_fresh_run_and_named(keys, models, tmp_path, capsys):
    small_bert.save(tmp_path / "model")
    theirs = transformers.BertModel.from_pretrained(tmp_path / "model", add_pooling_layer=False)
    theirs.save_pretrained(tmp_path / "model")
    cfg = tiny_runs.configured(keys, init_from=str(tmp_path / "model"), seed=5)
    mesh = meshes.make(jax.devices())
    capsys.readouterr()
    params = pretraining.training(cfg).first_params(trainer.abstract_state(pretraining.make_job(cfg), mesh).params)
    assert capsys.readouterr().err == f"{tmp_path / 'model'} has no pooler, no mlm, no nsp: drawn from seed 5\n"
    fresh = pretraining.make_job(cfg).init(jax.random.key(5))
    for name in ("pooler", "mlm", "nsp"):
        jax.tree.map(np.testing.assert_array_equal, params[name], fresh[name])
    jax.tree.map(np.testing.assert_array_equal, params["layers"], param_layout.pack(small_bert.params())["layers"])


def test_a_checkpoint_without_the_config_of_its_model_is_refused(keys, models, tmp_path, monkeypatch):
    shutil.copytree(models / "workdir" / "checkpoints" / "7", tmp_path / "bare")
    assert "has no config.json to say what its parameters mean" in refusal(
        keys, tmp_path / "bare", tmp_path, monkeypatch
    )
    # Not the config of a workdir that it was only copied into.
    shutil.copytree(models / "workdir", tmp_path / "other")
    shutil.copytree(models / "workdir" / "checkpoints" / "7", tmp_path / "other" / "copied")
    assert "has no config.json" in refusal(keys, tmp_path / "other" / "copied", tmp_path, monkeypatch)


def test_the_variant_like_has_the_sizes_of_the_model_and_a_restart_compares_equal(keys, models, tmp_path):
    words = [f"--config.{key}={value}" for key, value in keys.items() if key[:6] != "model." or "dropout" in key]
    words += ["--config=configs/bert.py:like", f"--config.init_from={models / 'hugging_face'}", "--config.num_steps=2"]
    words += ["--config.model.dtype=float32", "--config.eval.num_batches=0"]
    for steps in (2, 2):
        cfg = pretraining.parse(command.Parser(), [*words, f"--config.num_steps={steps}"]).config
        assert pretraining.run(cfg, tmp_path / "run") == 0
    section = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert {key: section[key] for key in pretrained.MEANING} == {
        key: small_bert.SECTION[key] for key in pretrained.MEANING
    }
    with pytest.raises(command.UserError, match=r"give --config\.init_from=MODEL"):
        pretraining.parse(command.Parser(), ["--config=configs/bert.py:like"])
    with pytest.raises(command.UserError, match=r"the model in init_from sets config\.model\.num_heads here"):
        pretraining.parse(command.Parser(), ["--config=configs/bert.py:like", "--config.model.num_heads=2"])


def test_a_run_with_a_checkpoint_goes_on_without_the_model_that_it_started_from(keys, models, tmp_path):
    start = shutil.copytree(models / "hugging_face", tmp_path / "model")
    changes = {"init_from": str(start), "num_steps": 2, "eval.num_batches": 0}
    assert pretraining.run(tiny_runs.configured(keys, **changes), tmp_path / "run") == 0
    shutil.rmtree(start)
    assert pretraining.run(tiny_runs.configured(keys, **changes), tmp_path / "run") == 0
