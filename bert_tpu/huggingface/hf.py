"""BERT as Hugging Face keeps it: a directory of weights, config and vocabulary, read and written."""

import io
import json
from pathlib import Path
import sys
from typing import Any, NamedTuple

from etils import epath
import jax
import numpy as np
import safetensors
import safetensors.numpy

from bert_tpu.core import command, storage
from bert_tpu.huggingface import architectures, tensor_names
from bert_tpu.model import sizes, transformer
from bert_tpu.tokenizer import vocab

CONFIG = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
    "type_vocab_size": "type_vocab_size",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "layer_norm_eps": "layer_norm_eps",
}
# What a config.json says nothing of: how it is computed. Without a gradient both softmaxes are the same.
HERE = {"dtype": "float32", "remat": False, "softmax": "exact"}
# What every BERT here is. Where an old config.json leaves one out, it means the same.
FIXED = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


class Pretrained(NamedTuple):
    """What a directory holds. `params` lacks the heads that are `absent`."""

    params: dict[str, Any]
    model: dict[str, Any]  # the `model` section of a config
    vocab: vocab.Vocab
    absent: tuple[str, ...]


def complete(pretrained: Pretrained, seed=0) -> dict[str, Any]:
    """All parameters: those of `pretrained`, and fresh ones from `seed` for its absent heads."""
    if not pretrained.absent:
        return pretrained.params
    fresh = transformer.init(transformer.Bert(**pretrained.model), jax.random.key(seed))
    return pretrained.params | {head: jax.device_get(fresh[head]) for head in pretrained.absent}


def save(directory, params, section, vocabulary, more=architectures.PRETRAINED):
    """`directory` holds model and tokenizer as `from_pretrained` of transformers 4 and 5 reads them.

    more: what config.json says of the heads, its `architectures` among it.
    """
    directory = Path(directory)
    check_vocab(vocabulary, section, directory)
    directory.mkdir(parents=True, exist_ok=True)
    # safetensors' own save_file makes a file that nobody else may read (0600).
    data = safetensors.numpy.save(tensor_names.to_hf(params), metadata={"format": "pt"})
    (directory / "model.safetensors").write_bytes(data)
    config = {theirs: section[ours] for ours, theirs in CONFIG.items()} | FIXED
    config |= more | {"pad_token_id": vocab.ids(vocabulary).pad}
    _write_json(directory / "config.json", config)
    vocab.save(vocabulary, directory, max_length=section["max_positions"])
    specials = {f"{name[1:-1].lower()}_token": name for name in vocab.SPECIALS}
    _write_json(directory / "special_tokens_map.json", specials)


def load(directory) -> Pretrained:
    """The BERT in `directory`, from model.safetensors or, where torch is installed, pytorch_model.bin.

    A head that fine-tuning put on it is left out, and a line says so. Raises UserError that names the file for what is
    not there, is damaged or is not a BERT.
    """
    directory = epath.Path(directory)
    section, vocabulary = look(directory)
    tensors = _read_tensors(directory)
    params, absent = tensor_names.from_hf(tensors, section, str(directory))
    if heads := tensor_names.finetuned(tensors):
        print(f"{directory} is fine-tuned: its encoder is taken, its {' and '.join(heads)} left out", file=sys.stderr)
    return Pretrained(params, section, vocabulary, absent)


def look(directory) -> tuple[dict[str, Any], vocab.Vocab]:
    """Reads the `model` section and vocabulary of the BERT in `directory`, no weights. Raises UserError as `load`."""
    directory = epath.Path(directory)
    section, vocabulary = _read_section(directory / "config.json"), vocab.load(directory)
    check_vocab(vocabulary, section, directory)
    return section, vocabulary


def check_vocab(vocabulary, section, directory):
    """Raises UserError unless the model has a row for each piece and no other."""
    if len(vocabulary.pieces) != section["vocab_size"]:
        raise command.UserError(
            f"{directory}: the vocabulary has {len(vocabulary.pieces):,} pieces and the model "
            f"{section['vocab_size']:,}; put the model's own vocabulary there"
        )


def _read_section(path) -> dict[str, Any]:
    """The `model` section for a config.json."""
    if not path.exists():
        raise command.UserError(f"{path} does not exist: name a directory that save_pretrained made")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        given = {"layer_norm_eps": 1e-12} | given  # Google's own config.json files do not say it
    except (ValueError, TypeError):
        raise command.UserError(f"{path} is no JSON object: fetch or export it again") from None
    if isinstance(given.get("model"), dict):
        raise command.UserError(f"{path.parent} is the workdir of a run: make a model of it by tools.export_pytorch")
    for key, value in FIXED.items():
        if given.get(key, value) != value:
            raise command.UserError(f"{path} says {key} {given[key]!r}: only {value!r} can be loaded")
    for key in CONFIG.values():
        if not isinstance(given.get(key), str if key == "hidden_act" else int | float):
            raise command.UserError(f"{path} lacks {key}, or it is of a wrong type: {given.get(key)!r}")
    section = {ours: given[theirs] for ours, theirs in CONFIG.items()} | HERE
    try:
        sizes.check(transformer.Bert(**section), seq_len=1)
    except command.UserError as error:
        raise command.UserError(f"{path}: {error}") from None
    return section


def _read_tensors(directory) -> dict[str, np.ndarray]:
    path, old = directory / "model.safetensors", directory / "pytorch_model.bin"
    if path.exists():
        try:
            if storage.is_bucket(path):
                return safetensors.numpy.load(path.read_bytes())
            return safetensors.numpy.load_file(path)
        except safetensors.SafetensorError as error:
            raise command.UserError(f"{path} is damaged ({error}): fetch or export it again") from None
    if not old.exists():
        raise command.UserError(f"{directory} holds no weights: it has no model.safetensors")
    try:
        import torch
    except ModuleNotFoundError:
        raise command.UserError(f"{old} needs PyTorch: install torch or get a model.safetensors") from None
    try:
        tensors = torch.load(io.BytesIO(old.read_bytes()), map_location="cpu", weights_only=True)
        return {name: tensor.float().numpy() for name, tensor in tensors.items()}
    except Exception as error:  # whatever a damaged or foreign pickle makes the reader say
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise command.UserError(f"{old} cannot be read ({reason}): fetch it again") from None


def _write_json(path, content):
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
