"""Reads and writes a BERT as a Hugging Face directory: weights, config and vocabulary."""

from collections.abc import Mapping
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
# How to compute the model, which config.json does not say. Without a gradient both softmaxes are the same.
HERE = {"dtype": "float32", "remat": False, "softmax": "exact"}
# Properties of every BERT of this package. An old config.json that lacks one means the same.
FIXED = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


class Pretrained(NamedTuple):
    """The contents of a directory. `params` lacks the heads in `absent`."""

    params: dict[str, Any]
    model: dict[str, Any]  # the `model` section of a config
    vocab: vocab.Vocab
    absent: tuple[str, ...]


def complete(pretrained: Pretrained, seed: int = 0) -> dict[str, Any]:
    """Returns all parameters: those of `pretrained`, with its absent heads drawn from `seed`."""
    if not pretrained.absent:
        return pretrained.params
    fresh = transformer.init(transformer.Bert(**pretrained.model), jax.random.key(seed))
    return pretrained.params | {head: jax.device_get(fresh[head]) for head in pretrained.absent}


def save(
    directory: Path | str,
    params: dict[str, Any],
    section: Mapping[str, Any],
    vocabulary: vocab.Vocab,
    head_config: dict[str, Any] = architectures.PRETRAINED,
) -> None:
    """Writes model and tokenizer to `directory`, for `from_pretrained` of transformers 4 and 5.

    params: the tree of transformer.init, perhaps with other heads
    section: the `model` section of a config
    head_config: keys of config.json that describe the heads, such as `architectures`
    """
    directory = Path(directory)
    check_vocab(vocabulary, section, directory)
    directory.mkdir(parents=True, exist_ok=True)
    # save_file of safetensors would write a file that only its owner may read (0600).
    data = safetensors.numpy.save(tensor_names.to_hf(params), metadata={"format": "pt"})
    (directory / "model.safetensors").write_bytes(data)
    config = {theirs: section[ours] for ours, theirs in CONFIG.items()} | FIXED
    config |= head_config | {"pad_token_id": vocab.ids(vocabulary).pad}
    _write_json(directory / "config.json", config)
    vocab.save(vocabulary, directory, max_length=section["max_positions"])
    specials = {f"{name[1:-1].lower()}_token": name for name in vocab.SPECIALS}
    _write_json(directory / "special_tokens_map.json", specials)


def load(directory: Path | str) -> Pretrained:
    """Returns the BERT in `directory`, from model.safetensors or, if torch is installed, from pytorch_model.bin.

    It leaves out the head of a fine-tuning, and prints that on standard error. Raises UserError, with the file's name,
    if a file is missing, damaged or not a BERT's.
    """
    section, vocabulary = load_config(directory)
    tensors = _read_tensors(epath.Path(directory))
    params, absent = tensor_names.from_hf(tensors, section, str(directory))
    if heads := tensor_names.finetuned_heads(tensors):
        print(f"{directory} is fine-tuned: only its encoder is used, not its {' and '.join(heads)}", file=sys.stderr)
    return Pretrained(params, section, vocabulary, absent)


def load_config(directory: Path | str) -> tuple[dict[str, Any], vocab.Vocab]:
    """Returns the `model` section and vocabulary of the BERT in `directory`. Raises UserError as `load` does."""
    section, vocabulary = _read_section(epath.Path(directory) / "config.json"), vocab.load(directory)
    check_vocab(vocabulary, section, directory)
    return section, vocabulary


def check_vocab(vocabulary: vocab.Vocab, section: Mapping[str, Any], directory: Path | str) -> None:
    """Raises UserError unless the model has exactly one row for each piece. The message names `directory`."""
    if len(vocabulary.pieces) != section["vocab_size"]:
        raise command.UserError(
            f"{directory}: the vocabulary has {len(vocabulary.pieces):,} pieces, but the model has "
            f"{section['vocab_size']:,}; put the model's own vocabulary there"
        )


def _read_section(path: Path) -> dict[str, Any]:
    """Returns the `model` section that means the same as a config.json."""
    if not path.exists():
        raise command.UserError(f"{path} does not exist: give a directory that save_pretrained wrote")
    try:
        theirs = json.loads(path.read_text(encoding="utf-8"))
        theirs = {"layer_norm_eps": 1e-12} | theirs  # Google's config.json files lack it
    except (ValueError, TypeError):
        raise command.UserError(f"{path} is not a JSON object: fetch or export it again") from None
    if isinstance(theirs.get("model"), dict):
        raise command.UserError(f"{path.parent} is the workdir of a run: export a model with tools.export_pytorch")
    for key, value in FIXED.items():
        if theirs.get(key, value) != value:
            raise command.UserError(f"{path} has {key} {theirs[key]!r}: only {value!r} can be loaded")
    for key in CONFIG.values():
        if not isinstance(theirs.get(key), str if key == "hidden_act" else int | float):
            raise command.UserError(f"{path} lacks {key}, or its value has the wrong type: {theirs.get(key)!r}")
    section = {key: theirs[name] for key, name in CONFIG.items()} | HERE
    try:
        sizes.check(transformer.Bert(**section), seq_len=1)
    except command.UserError as error:
        raise command.UserError(f"{path}: {error}") from None
    return section


def _read_tensors(directory: Path) -> dict[str, np.ndarray]:
    path, old = directory / "model.safetensors", directory / "pytorch_model.bin"
    if path.exists():
        try:
            if storage.is_bucket(path):
                return safetensors.numpy.load(path.read_bytes())
            return safetensors.numpy.load_file(path)
        except safetensors.SafetensorError as error:
            raise command.UserError(f"{path} is damaged ({error}): fetch or export it again") from None
    if not old.exists():
        raise command.UserError(f"{directory} has no weights: it has no model.safetensors")
    try:
        import torch
    except ModuleNotFoundError:
        raise command.UserError(f"{old} needs PyTorch: install torch or get a model.safetensors") from None
    try:
        tensors = torch.load(io.BytesIO(old.read_bytes()), map_location="cpu", weights_only=True)
        return {name: tensor.float().numpy() for name, tensor in tensors.items()}
    except Exception as error:  # a damaged or foreign pickle may raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise command.UserError(f"{old} cannot be read ({reason}): fetch it again") from None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
