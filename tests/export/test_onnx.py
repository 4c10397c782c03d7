"""The ONNX files of an export are the same model at any length; with fewer bits they lose only what rounding loses."""

import contextlib
import io
import pathlib
import sys

from conftest import ROOT
from helpers import small_bert
import numpy as np
import pytest
import torch
import transformers

from bert_tpu.core import command
from bert_tpu.export import onnx_files, onnx_graph, onnx_quantize
from bert_tpu.huggingface import hf, upload
from bert_tpu.report import model_card
from tools import export_onnx

# Rows of 31 tokens. The graph was exported with other lengths.
SHAPE = 5, 31


def on_a_grid(x):
    """x rounded to 16 even levels in each block of 32 along a matrix' inputs; the outer levels are both used."""
    if x.ndim != 2:
        return x
    blocks = x.reshape(*x.shape[:-1], -1, onnx_quantize.BLOCK)
    step = np.abs(blocks).max(axis=-1, keepdims=True) / 8
    levels = np.clip(np.round(blocks / step), -8, 7)
    levels[..., 0], levels[..., 1] = -8, 7
    return (levels * step).astype(np.float32).reshape(x.shape)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A directory whose weights fit 4 bits without loss."""
    directory = small_bert.save(tmp_path_factory.mktemp("onnx") / "model")
    path = directory / "model.safetensors"
    tensors = {name: on_a_grid(x) for name, x in small_bert.safetensors.numpy.load_file(path).items()}
    path.unlink()
    small_bert.safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})
    card = f"# Card\n\n## {model_card.ONNX_HEADING}\n\nnot yet\n\n## Citation\n\nNobody.\n"
    (directory / "README.md").write_text(card)
    return directory


@pytest.fixture(scope="module")
def output(model):
    """The tool's output when it wrote the files."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as out:
        patch.setattr(sys, "argv", ["tool", "--model", str(model)])
        command.run(export_onnx.main)
    return out.getvalue()


@pytest.fixture(scope="module")
def costs(model, output):
    del output
    return onnx_files.read(model)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(3)
    real = np.arange(SHAPE[1]) < np.array([31, 30, 17, 3, 1])[:, None]
    return {
        "input_ids": np.where(real, rng.integers(5, len(small_bert.PIECES), SHAPE), 0),
        "attention_mask": real.astype(np.int64),
        "token_type_ids": (real & (np.arange(SHAPE[1]) > 8)).astype(np.int64),
    }


@pytest.fixture(scope="module")
def expected(model, batch):
    """PyTorch's MLM logits of the real tokens, and its NSP logits."""
    bert = transformers.BertForPreTraining.from_pretrained(model).eval()
    with torch.no_grad():
        outputs = bert(**{key: torch.from_numpy(value) for key, value in batch.items()})
    return outputs.prediction_logits.numpy()[batch["attention_mask"] > 0], outputs.seq_relationship_logits.numpy()


def logits(model, form, batch):
    session = onnx_graph.session(model / "onnx" / onnx_files.FORMS[form][0])
    mlm, nsp = session.run(["logits", "seq_relationship_logits"], batch)
    return mlm[batch["attention_mask"] > 0], nsp


@pytest.mark.parametrize(("form", "tolerance"), [("float32", 1e-5), ("4-bit", 1e-4)])
def test_logits_are_pytorch_s_at_any_length(model, costs, batch, expected, form, tolerance):
    """4 bits lose nothing of these weights, so any difference would be another model."""
    del costs
    for ours, theirs in zip(logits(model, form, batch), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance * np.abs(theirs).max())


def test_vectors_are_the_encoder_s(model, costs, batch):
    """Without them transformers.js would take the logits for vectors."""
    del costs
    encoder = transformers.BertModel.from_pretrained(model).eval()
    with torch.no_grad():
        theirs = encoder(**{key: torch.from_numpy(value) for key, value in batch.items()}).last_hidden_state.numpy()
    (ours,) = onnx_graph.session(model / "onnx" / "model.onnx").run(["last_hidden_state"], batch)
    real = batch["attention_mask"] > 0
    np.testing.assert_allclose(ours[real], theirs[real], atol=1e-5 * np.abs(theirs).max())


def test_int8_is_off_by_its_rounding_alone(model, costs, batch, expected):
    del costs
    for ours, theirs in zip(logits(model, "int8", batch), expected, strict=True):
        error = np.sqrt(np.mean((ours - theirs) ** 2)) / np.std(theirs)
        assert 0 < error < 0.1


@pytest.mark.parametrize(("form", "bytes_a_weight"), [("float32", 4), ("int8", 1), ("4-bit", 0.5)])
def test_the_tied_matrix_is_there_once(model, costs, form, bytes_a_weight):
    """Each form has one initializer of as many bytes as the embeddings take."""
    import onnx

    del costs
    initializers = onnx.load(model / "onnx" / onnx_files.FORMS[form][0]).graph.initializer
    size = len(small_bert.PIECES) * small_bert.SECTION["hidden_size"] * bytes_a_weight
    assert [len(each.raw_data) for each in initializers].count(size) == 1


def test_costs_are_those_of_the_files(model, costs):
    assert costs["difference_from_pytorch"] < 1e-4
    for entry in costs["files"]:
        assert entry["bytes"] == (model / "onnx" / entry["file"]).stat().st_size
        assert entry["milliseconds"] > 0
        assert entry["scores"] == {}


def test_the_card_gets_the_table_and_keeps_the_rest(model, output):
    text = (model / "README.md").read_text()
    assert text.startswith(f"# Card\n\n## {model_card.ONNX_HEADING}\n\n| file of onnx/ ")
    assert text.endswith("\n\n## Citation\n\nNobody.\n")
    assert "not yet" not in text
    for each in (text, output):
        assert "| model_q4.onnx | 4-bit |" in each


def test_another_model_is_not_written(tmp_path, monkeypatch):
    """A graph whose logits are not PyTorch's leaves no files."""
    directory = small_bert.save(tmp_path / "model")
    run = onnx_graph.session

    class Wrong:
        def __init__(self, model):
            self.get_outputs = run(model).get_outputs
            self._run = run(model).run

        def run(self, *args):
            return [x + np.float32(1e-3) for x in self._run(*args)]

    monkeypatch.setattr(onnx_graph, "session", Wrong)
    with pytest.raises(command.UserError, match=r"onnxruntime computes another model: logits differ by up to 0.001"):
        onnx_files.write(directory)
    assert not (directory / "onnx").exists()


OTHER = '{"architectures": ["GPT2"], "max_position_embeddings": 8}'
NONE = "is not that of an exported model"


@pytest.mark.parametrize(("config", "complaint"), [(None, NONE), ("{", NONE), ("[]", NONE), (OTHER, "names GPT2")])
def test_a_directory_that_is_not_an_export_is_refused(tmp_path, config, complaint):
    if config:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(command.UserError, match=complaint):
        onnx_files.write(tmp_path)


def test_the_workdir_must_be_the_model_s(tmp_path):
    model, run = small_bert.save(tmp_path / "model"), small_bert.workdir(tmp_path / "run")
    small_bert.vocab.save(small_bert.OTHER_VOCAB, run / "tokenizer")
    with pytest.raises(command.UserError, match="trained another vocabulary"):
        onnx_files.write(model, run)
    assert hf.load(model).vocab == small_bert.VOCAB


def test_cut_weights_are_named(tmp_path):
    directory = small_bert.save(tmp_path / "model")
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(command.UserError, match="has no sound weights"):
        onnx_files.write(directory)
    assert not (directory / "onnx").exists()


def test_existing_files_are_not_written_again(model, costs):
    with pytest.raises(command.UserError, match="onnx exists: remove it to write it again"):
        onnx_files.write(model)
    assert onnx_files.read(model) == costs


def test_no_folder_of_this_machine_is_in_a_file(model, output):
    """The exporter notes the stack trace of each node, and a stack trace is full of home folders."""
    del output
    folders = {str(ROOT), str(pathlib.Path(transformers.__file__).parent), str(model.parent)}
    paths = upload.files(model)
    assert any(path.suffix == ".onnx" for path in paths)
    for path in paths:
        content = path.read_bytes()
        assert not [folder for folder in folders if folder.encode() in content], path
