"""Converts between our names of a BERT's tensors and those of Hugging Face's classes.

One table serves both directions. Kernels are transposed; nothing else changes.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from bert_tpu.core import command
from bert_tpu.huggingface import architectures
from bert_tpu.model import param_layout

# `#` stands for the number of a layer.
TABLE = {
    "embeddings/word": "bert.embeddings.word_embeddings.weight",
    "embeddings/position": "bert.embeddings.position_embeddings.weight",
    "embeddings/type": "bert.embeddings.token_type_embeddings.weight",
    "embeddings/norm": "bert.embeddings.LayerNorm",
    "layer_#/attention/query": "bert.encoder.layer.#.attention.self.query",
    "layer_#/attention/key": "bert.encoder.layer.#.attention.self.key",
    "layer_#/attention/value": "bert.encoder.layer.#.attention.self.value",
    "layer_#/attention/output": "bert.encoder.layer.#.attention.output.dense",
    "layer_#/attention_norm": "bert.encoder.layer.#.attention.output.LayerNorm",
    "layer_#/up": "bert.encoder.layer.#.intermediate.dense",
    "layer_#/down": "bert.encoder.layer.#.output.dense",
    "layer_#/norm": "bert.encoder.layer.#.output.LayerNorm",
    "pooler": "bert.pooler.dense",
    "mlm/transform": "cls.predictions.transform.dense",
    "mlm/norm": "cls.predictions.transform.LayerNorm",
    "mlm/bias": "cls.predictions.bias",
    "nsp": "cls.seq_relationship",
    "classifier": "classifier",
    "qa_outputs": "qa_outputs",
}
KeyPath = tuple[Any, ...]  # of jax.tree_util: entries with the attribute `key`
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
HEADS = ("pooler", "mlm", "nsp")  # an encoder may lack them

# Tied tensors: PyTorch's modules have both names, our tree only the one on the right.
TIED = {
    "cls.predictions.decoder.bias": "cls.predictions.bias",
    "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
}


def to_hf(params: dict[str, Any]) -> dict[str, np.ndarray]:
    """Returns all of `params` as float32 tensors, with the names of the class that has these heads.

    The MLM decoder's bias has both of its names: `cls.predictions.bias`, without which transformers 4 loads an
    empty module, and `.decoder.bias` for readers that do not tie. Its weight has only the name of the embeddings.
    """
    tensors = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        array = np.asarray(leaf, np.float32)
        tensors[_name(path)] = np.ascontiguousarray(array.T if _is_kernel(path) else array)
    if "mlm" in params:
        decoder_bias = "cls.predictions.decoder.bias"
        tensors[decoder_bias] = tensors[TIED[decoder_bias]]
    return tensors


def from_hf(
    tensors: Mapping[str, np.ndarray], section: Mapping[str, Any], source: str = "the model"
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Returns (params, absent heads) from the tensors of any BERT class. It ignores a fine-tuned head.

    Raises UserError unless the other tensors are exactly the encoder of `section` and whole heads of pretraining.

    tensors: by name, with or without `bert.` at the beginning
    section: the `model` section of a config
    source: name of the model in error messages
    """
    ours = {_modern(name): tensor for name, tensor in tensors.items() if _first(name) not in architectures.HEADS}
    ours = _untied(ours, source)
    ours.pop("bert.embeddings.position_ids", None)  # 0, 1, 2, ...: saved by transformers before 4.31
    expected = param_layout.shapes(section)
    absent = tuple(head for head in HEADS if not _names({head: expected[head]}) & ours.keys())
    expected = {key: tree for key, tree in expected.items() if key not in absent}
    names = _names(expected)
    if missing := names - ours.keys():
        raise command.UserError(f"{source} lacks {_listed(missing)}: fetch or export it again")
    if unexpected := ours.keys() - names:
        raise command.UserError(f"{source} has {_listed(unexpected)}: not part of the BERT in config.json")

    def take(path: KeyPath, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        array, shape = ours[_name(path)], leaf.shape[::-1] if _is_kernel(path) else leaf.shape
        if array.shape != shape:
            raise command.UserError(
                f"{source}: {_name(path)} is {array.shape}, but config.json asks for {shape}; fix one of them"
            )
        return np.ascontiguousarray(array.T if _is_kernel(path) else array, np.float32)

    return jax.tree_util.tree_map_with_path(take, expected), absent


def finetuned_heads(tensors: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Returns the fine-tuned heads among the tensors of a BERT class, which `from_hf` ignores."""
    return tuple(head for head in architectures.HEADS if head in map(_first, tensors))


def _first(name: str) -> str:
    return name.partition(".")[0]


def _modern(name: str) -> str:
    """Returns today's name of a tensor: with `bert.`, and without TensorFlow's gamma and beta."""
    if name.startswith(("embeddings.", "encoder.", "pooler.")):
        name = f"bert.{name}"
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _untied(tensors: dict[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Removes the second name of each tied tensor."""
    for second, first in TIED.items():
        twin = tensors.pop(second, None)
        if twin is not None and not np.array_equal(tensors.setdefault(first, twin), twin):
            raise command.UserError(f"{source}: {second} differs from {first}; only tied tensors can be loaded")
    return tensors


def _names(tree: dict[str, Any]) -> set[str]:
    return {_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}


def _name(path: KeyPath) -> str:
    """Returns Hugging Face's name of the leaf at `path` of our tree."""
    keys = [entry.key for entry in path]
    _, _, number = keys[0].partition("layer_")
    keys[0] = "layer_#" if number else keys[0]
    name = TABLE.get("/".join(keys)) or f"{TABLE['/'.join(keys[:-1])]}.{LEAVES[keys[-1]]}"
    return name.replace("#", number)


def _is_kernel(path: KeyPath) -> bool:
    return path[-1].key == "kernel"


def _listed(names: set[str]) -> str:
    first = sorted(names)[:3]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")
