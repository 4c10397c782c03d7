"""A small BERT without constant parameters, as a run's workdir and as a Hugging Face directory."""

import atexit
import functools
import json
import pathlib
import tempfile

import jax
import numpy as np
import safetensors.numpy

from bert_tpu.distributed import mesh
from bert_tpu.huggingface import hf
from bert_tpu.model import param_layout, transformer
from bert_tpu.tokenizer import vocab
from bert_tpu.training import checkpoint, jobs

WORDS = "the cat dog sat ran on under mat tree house was is very small big red blue ##ing ##er it she he and"
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'"
PIECES = (*vocab.SPECIALS, *LETTERS, *(f"##{letter}" for letter in LETTERS[:36]), *WORDS.split())
VOCAB = vocab.Vocab(PIECES, lower=True)
OTHER_VOCAB = vocab.Vocab((*PIECES, "new"), lower=True)
SECTION = {
    "vocab_size": len(PIECES),
    "hidden_size": 64,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_size": 96,
    "max_positions": 48,
    "type_vocab_size": 2,
    "activation": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "layer_norm_eps": 1e-12,
    "dtype": "float32",
    "remat": False,
}
SHALLOW = SECTION | {"num_layers": 1}  # for tests that do not depend on layers: a quarter less to trace
STEP = 7


def params(section=SECTION, seed=0):
    """Returns fresh parameters plus noise: attention is uneven, no bias is 0 and no norm 1."""
    rng = np.random.default_rng(seed)
    fresh = transformer.init(transformer.Bert(**section), jax.random.key(seed))
    return jax.tree.map(lambda x: x + rng.normal(0, 0.1, x.shape).astype(np.float32), jax.device_get(fresh))


def save(directory, section=SECTION):
    """Writes the Hugging Face directory of `params(section)` and returns its path."""
    hf.save(directory, params(section), section, VOCAB)
    return directory


@functools.cache
def saved_once():
    """Returns a Hugging Face directory of one layer, to copy or read. It lives as long as this process."""
    folder = tempfile.TemporaryDirectory(prefix="bert_tpu-small-")
    atexit.register(folder.cleanup)
    return save(pathlib.Path(folder.name) / "model", SHALLOW)


def workdir(directory, section=SECTION):
    """Writes the workdir of a run with `params(section)` after STEP steps on eight devices, and returns its path."""
    save_step(directory, STEP, section)
    # Runs of earlier releases have a key "softmax".
    config = {
        "model": section | {"dtype": "bfloat16", "softmax": "bounded"},
        "corpus": {"sha256": "c0ffee"},
        "data": {"dir": "gone"},
    }
    (directory / "config.json").write_text(json.dumps(config))
    vocab.save(VOCAB, directory / "tokenizer")
    return directory


def save_step(directory, step, section=SECTION, seed=0):
    """Writes the checkpoint of a step with `params(section, seed)` to a workdir."""
    replicated = mesh.replicated(mesh.make(jax.devices()))
    opt = {"moments": np.zeros(1, np.float32)}  # of no use to an export
    packed = jax.device_put(param_layout.pack(params(section, seed)), replicated)
    checkpoints = checkpoint.Checkpoints(directory=directory / "checkpoints", every_steps=1, keep_last=9, keep_every=0)
    checkpoints.save(jobs.State(np.int32(step), packed, opt), {"step": step})
    checkpoints.close()


def spoil(monkeypatch, edit):
    """Makes `edit` change the tensors after they are saved and before they are checked."""
    save = hf.save

    def save_spoilt(directory, *args, **options):
        save(directory, *args, **options)
        path = directory / "model.safetensors"
        tensors = safetensors.numpy.load_file(path)
        edit(tensors)
        safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})

    monkeypatch.setattr(hf, "save", save_spoilt)


def batch():
    """Returns four pretraining rows of different lengths, with two segments and unused prediction slots."""
    rng = np.random.default_rng(1)
    lengths, predictions, pieces = [24, 23, 9, 5], [6, 4, 2, 1], SECTION["vocab_size"]
    real = np.arange(lengths[0]) < np.array(lengths)[:, None]
    places = np.zeros((4, predictions[0]), np.int32)
    for row, (length, number) in enumerate(zip(lengths, predictions, strict=True)):
        places[row, :number] = np.sort(rng.choice(length, number, replace=False))
    used = np.arange(predictions[0]) < np.array(predictions)[:, None]
    return {
        "input_ids": np.where(real, rng.integers(1, pieces, real.shape), 0).astype(np.int32),
        "token_type_ids": (real & (np.arange(lengths[0]) >= 4)).astype(np.int32),
        "attention_mask": real.astype(np.int32),
        "masked_positions": places,
        "masked_ids": np.where(used, rng.integers(1, pieces, used.shape), 0).astype(np.int32),
        "next_sentence_label": np.array([0, 1, 1, 0], np.int32),
    }
