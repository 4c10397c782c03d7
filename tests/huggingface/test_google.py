"""A TensorFlow checkpoint in the form of google-research/bert has the same logits here as in transformers."""

import json

from helpers import small_bert
import jax
import numpy as np
import pytest
import tensorflow as tf

from bert_tpu.core import command
from bert_tpu.huggingface import google, hf, pretrained, tensor_names

SECTION = small_bert.SHALLOW
CONFIG = {
    "vocab_size": len(small_bert.PIECES), "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
    "intermediate_size": 96, "max_position_embeddings": 48, "type_vocab_size": 2, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
    "directionality": "bidi", "pooler_fc_size": 768,
}  # fmt: skip
# The names that modeling.py of google-research/bert gives its variables, written by hand: name -> path in our tree.
LAYER = {
    "attention/self/query": "attention/query", "attention/self/key": "attention/key",
    "attention/self/value": "attention/value", "attention/output/dense": "attention/output",
    "attention/output/LayerNorm": "attention_norm", "intermediate/dense": "up", "output/dense": "down",
    "output/LayerNorm": "norm",
}  # fmt: skip
NAMES = {
    "bert/embeddings/word_embeddings": "embeddings/word",
    "bert/embeddings/position_embeddings": "embeddings/position",
    "bert/embeddings/token_type_embeddings": "embeddings/type",
    "bert/embeddings/LayerNorm": "embeddings/norm",
    **{f"bert/encoder/layer_0/{theirs}": f"layer_0/{ours}" for theirs, ours in LAYER.items()},
    "bert/pooler/dense": "pooler",
    "cls/predictions/transform/dense": "mlm/transform",
    "cls/predictions/transform/LayerNorm": "mlm/norm",
    "cls/predictions/output_bias": "mlm/bias",
}
LEAVES = {"kernel": "kernel", "bias": "bias", "scale": "gamma"}


def variables():
    """The variables of google-research/bert with the parameters of helpers.small_bert."""
    params = small_bert.params(SECTION)
    nsp = params["nsp"]
    found = {
        # Unlike every kernel, this matrix is [outputs, inputs].
        "cls/seq_relationship/output_weights": nsp["kernel"].T,
        "cls/seq_relationship/output_bias": nsp["bias"],
    }
    for theirs, ours in NAMES.items():
        node = params
        for key in ours.split("/"):
            node = node[key]
        if isinstance(node, dict):
            for leaf, array in node.items():
                name = "beta" if leaf == "bias" and "LayerNorm" in theirs else LEAVES[leaf]
                found[f"{theirs}/{name}"] = array
        else:
            found[theirs] = node
    return found


def write(directory, arrays, prefix="bert_model.ckpt"):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "bert_config.json").write_text(json.dumps(CONFIG))
    (directory / "vocab.txt").write_text("".join(f"{piece}\n" for piece in small_bert.PIECES))
    with tf.Graph().as_default():
        for name, array in arrays.items():
            tf.compat.v1.get_variable(name, initializer=tf.constant(np.asarray(array)))
        with tf.compat.v1.Session() as session:
            session.run(tf.compat.v1.global_variables_initializer())
            tf.compat.v1.train.Saver().save(session, str(directory / prefix), write_meta_graph=False)
    return directory


def with_optimizer(arrays):
    slots = {f"{name}/{slot}": array for name, array in arrays.items() for slot in ("adam_m", "adam_v", "BERTAdam_1")}
    return arrays | slots | {"global_step": np.int64(7), "beta1_power": np.float32(0.9)}


def assert_same(params):
    jax.tree.map(np.testing.assert_array_equal, params, small_bert.params(SECTION))


@pytest.mark.parametrize("read", [hf.load, pretrained.load])
def test_a_download_of_google_is_read_bit_for_bit(tmp_path, capsys, read):
    loaded = read(write(tmp_path / "uncased_L-1_H-64_A-4", variables()))
    assert_same(loaded.params)
    assert (loaded.vocab, loaded.absent) == (small_bert.VOCAB, ())
    assert loaded.model["layer_norm_eps"] == 1e-12
    note = capsys.readouterr().err
    assert f"a tokenizer of {len(small_bert.PIECES)} pieces, uncased\n" in note
    assert "is a TensorFlow checkpoint: bert_model.ckpt with 30 variables\n" in note


def test_the_names_are_those_of_transformers_too(tmp_path):
    theirs = tensor_names.to_hf(small_bert.params(SECTION))
    ours = google.read(pretrained.epath.Path(write(tmp_path / "model", variables())))
    del theirs["cls.predictions.decoder.bias"]
    assert {name: tensor.shape for name, tensor in ours.items()} == {n: t.shape for n, t in theirs.items()}


def test_state_of_the_optimizer_is_left_out_and_counted(tmp_path, capsys):
    assert_same(hf.load(write(tmp_path / "m", with_optimizer(variables()), "model.ckpt-7")).params)
    assert "model.ckpt-7 with 30 variables; variables of the optimizer, left out: 92" in capsys.readouterr().err


def test_the_newest_step_is_read_or_the_one_that_is_named(tmp_path):
    write(tmp_path, {name: array + 1 for name, array in variables().items()}, "model.ckpt-9")
    write(tmp_path, variables(), "model.ckpt-10")
    assert_same(hf.load(tmp_path).params)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model.ckpt-9"\n')
    with pytest.raises(AssertionError):
        assert_same(hf.load(tmp_path).params)
    (tmp_path / "checkpoint").unlink()
    assert_same(hf.load(tmp_path).params)


def test_a_fine_tuned_checkpoint_gives_its_encoder(tmp_path, capsys):
    arrays = {name: array for name, array in variables().items() if not name.startswith("cls/")}
    arrays |= {"output_weights": np.ones((3, 64), np.float32), "output_bias": np.ones(3, np.float32)}
    loaded = hf.load(write(tmp_path, arrays))
    assert loaded.absent == ("mlm", "nsp")
    assert "only its encoder is used, not its classifier" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "upper", "lower"),
    [
        ("uncased_L-1", False, True), ("chinese_L-1", False, True), ("multilingual_L-1", False, True),
        ("wwm_uncased_L-1", False, True), ("cased_L-1", True, False), ("multi_cased_L-1", True, False),
        ("mine", False, True), ("mine", True, False), ("uncased_L-1", True, None), ("cased_L-1", False, None),
    ],
)  # fmt: skip
def test_case_is_the_vocabularys_and_the_name_of_a_download_must_agree(tmp_path, name, upper, lower):
    pieces = (*small_bert.PIECES[:-1], "And" if upper else "and")
    directory = tmp_path / name
    directory.mkdir()
    (directory / "bert_config.json").write_text(json.dumps(CONFIG))
    (directory / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces))
    (directory / "bert_model.ckpt.index").write_bytes(b"")
    if lower is None:
        with pytest.raises(command.UserError, match=r"named as a .*cased model, but .*put a tokenizer_config.json"):
            hf.load_config(directory)
        (directory / "tokenizer_config.json").write_text('{"do_lower_case": true}')
        assert hf.load_config(directory)[1].lower
    else:
        assert hf.load_config(directory)[1].lower is lower


def damage_index(directory):
    (directory / "bert_model.ckpt.index").write_bytes(b"damaged")


def lose_data(directory):
    (directory / "bert_model.ckpt.data-00000-of-00001").unlink()


def cut_data(directory):
    path = directory / "bert_model.ckpt.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize("spoil", [damage_index, lose_data, cut_data])
def test_damaged_files_are_refused_in_a_sentence(tmp_path, spoil):
    spoil(write(tmp_path, variables()))
    with pytest.raises(command.UserError, match=r"bert_model.ckpt cannot be read \(.*\): fetch the model again"):
        hf.load(tmp_path)


def test_checkpoints_of_tensorflow_2_and_of_other_models_are_refused_by_name(tmp_path):
    write(tmp_path / "one", variables())
    tf.train.Checkpoint(x=tf.Variable(1.0)).write(str(tmp_path / "one" / "bert_model.ckpt"))
    with pytest.raises(command.UserError, match="is a TensorFlow 2 checkpoint"):
        hf.load(tmp_path / "one")
    electra = {name.replace("bert/", "electra/"): array for name, array in variables().items()}
    with pytest.raises(command.UserError, match="is an ELECTRA"):
        hf.load(write(tmp_path / "two", electra))
    albert = {name.replace("layer_0", "transformer/group_0/inner_group_0"): a for name, a in variables().items()}
    with pytest.raises(command.UserError, match=r"lacks bert.encoder.*instead"):
        hf.load(write(tmp_path / "three", albert))
