"""Directories of models: configs, indexes and weights, damaged or with odd values."""

import contextlib
import functools
import io
import json
import pathlib
import tempfile

from helpers import small_bert
from hypothesis import strategies as st
import numpy as np
import safetensors.numpy
import transformers

from bert_tpu.huggingface import config_json, hf, pretrained
from fuzz import damaged
from fuzz.target import Target

ODD = (
    None, True, False, 0, 1, -1, 2, 3, 2**40, float("inf"), "", "x", "64", "gelu", "gelu_new", "absolute", [], [1], {},
    {"a": 1}, 1.5, 64.0, 1e-12, 64, 48, "bert", "roberta", 105,
)  # fmt: skip
KEYS = ("rotary", "head_dim", "embedding_size", "auto_map", "pooler_type", "pruned_heads", "quantization_config")
PREFIXES = ("module.", "_orig_mod.", "model.", "bert.", "x.y.", "roberta.", "")


@functools.cache
def _whole():
    """File name -> bytes of a sound model in two files and their index."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(small_bert.save(pathlib.Path(folder) / "model", small_bert.SHALLOW))
        tensors = safetensors.numpy.load_file(path / "model.safetensors")
        files = {file.name: file.read_bytes() for file in path.iterdir() if file.suffix == ".json"}
        files["vocab.txt"] = (path / "vocab.txt").read_bytes()
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(sorted(tensors))}
    for place in set(places.values()):
        part = {name: tensor for name, tensor in tensors.items() if places[name] == place}
        files[place] = safetensors.numpy.save(part)
    return files | {"model.safetensors.index.json": json.dumps({"weight_map": places}).encode()}


@st.composite
def _configs(draw):
    """Draws the bytes of a config.json: with odd values, or damaged."""
    config = json.loads(_whole()["config.json"])
    for _ in range(draw(st.integers(1, 2))):
        config[draw(st.sampled_from((*config, *KEYS)))] = draw(st.sampled_from(ODD))
    text = json.dumps(config, indent=1).encode()
    return draw(st.one_of(st.just(text), damaged.edits(st.just(_whole()["config.json"]))))


@st.composite
def _files(draw):
    """Draws (name, bytes) of a damaged file of a sound model."""
    name = draw(st.sampled_from([name for name in _whole() if name.startswith("model")]))
    return name, draw(damaged.edits(st.just(_whole()[name])))


@st.composite
def _names(draw):
    """Draws (prefix, tensors that get it, tensors left out)."""
    count = 26
    some = st.lists(st.integers(0, count), max_size=2, unique=True)
    return draw(st.sampled_from(PREFIXES)) + draw(st.sampled_from(PREFIXES)), draw(some), draw(some)


@contextlib.contextmanager
def _directory(changed):
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        path = pathlib.Path(folder) / "model"
        path.mkdir()
        for name, raw in (_whole() | changed).items():
            (path / name).write_bytes(raw)
        yield path


def _check_config(raw):
    """An accepted config means to transformers what it means here."""
    with _directory({"config.json": raw}) as path:
        section = config_json.read(pretrained.epath.Path(path / "config.json"))
        pretrained.load_origin(path)
        given = json.loads(raw.decode("utf-8-sig"))
        # transformers checks the types of other keys, which mean nothing here.
        theirs = transformers.BertConfig(**{key: given[key] for key in config_json.CONFIG.values() if key in given})
        for ours, name in config_json.CONFIG.items():
            assert section[ours] == getattr(theirs, name), name


def _check_file(drawn):
    """Accepted weights are those of the file: finite, and with every name."""
    name, raw = drawn
    with _directory({name: raw}) as path:
        loaded = hf.load(path)
        if raw == _whole()[name]:
            want = small_bert.params(small_bert.SHALLOW)
            np.testing.assert_array_equal(loaded.params["embeddings"]["word"], want["embeddings"]["word"])


def _check_names(drawn):
    """A model with other names is read as the same, or refused."""
    prefix, plain, absent = drawn
    with _directory({}) as path:
        tensors = {}
        for file in sorted(path.glob("*.safetensors")):
            tensors |= safetensors.numpy.load_file(file)
            file.unlink()
        (path / "model.safetensors.index.json").unlink()
        named = {
            name if i in plain else prefix + name: tensor
            for i, (name, tensor) in enumerate(sorted(tensors.items()))
            if i not in absent
        }
        safetensors.numpy.save_file(named, path / "model.safetensors")
        loaded = hf.load(path)
        want = small_bert.params(small_bert.SHALLOW)
        for part in loaded.params.keys() - set(loaded.absent):
            for (_, a), (_, b) in zip(_leaves(loaded.params[part]), _leaves(want[part]), strict=True):
                assert np.array_equal(a, b), part


def _leaves(tree):
    return sorted(_flat(tree, ""), key=lambda pair: pair[0])


def _flat(tree, path):
    if not isinstance(tree, dict):
        return [(path, tree)]
    return [leaf for key, value in tree.items() for leaf in _flat(value, f"{path}/{key}")]


def targets():
    """The targets of this file."""
    return [
        Target("config.json of a model", _configs(), _check_config, 0.7),
        Target("weights of a model", _files(), _check_file, 0.3),
        Target("names of tensors", _names(), _check_names, 0.3),
    ]
