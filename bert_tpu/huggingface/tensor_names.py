"""Converts between our names of a BERT's tensors and those of Hugging Face's classes.

One table serves both directions. Kernels are transposed; nothing else changes.
"""

from collections.abc import Mapping
import re
from typing import Any

import jax
import numpy as np

from bert_tpu.core import command, numerals
from bert_tpu.huggingface import architectures, weights
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
# Parts of names that PyTorch's compiler, FSDP and activation checkpointing add anywhere.
WRAPPERS = re.compile(r"(?:(?<=\.)|^)(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# 0, 1, 2, ... and zeros, which transformers saved before 4.31.
BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.")
ANCHOR = "embeddings.position_embeddings.weight"  # unlike the word embeddings, never left out as a copy
OTHERS = {  # name of the encoder's module -> what it is. Their tensors have BERT's names and mean something else.
    "roberta": "a RoBERTa", "electra": "an ELECTRA", "distilbert": "a DistilBERT", "albert": "an ALBERT",
    "deberta": "a DeBERTa", "mpnet": "an MPNet", "mobilebert": "a MobileBERT", "convbert": "a ConvBERT",
    "ernie": "an ERNIE", "nezha": "a NEZHA", "roformer": "a RoFormer", "longformer": "a Longformer",
    "camembert": "a CamemBERT", "layoutlm": "a LayoutLM",
}  # fmt: skip


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

    tensors: by name, as `plain` returns them
    section: the `model` section of a config
    source: name of the model in error messages
    """
    ours = {name: tensor for name, tensor in tensors.items() if _first(name) not in architectures.HEADS}
    ours = _untied(ours, source)
    for name in BUFFERS:
        ours.pop(name, None)
    expected = param_layout.shapes(section)
    absent = tuple(head for head in HEADS if not _names({head: expected[head]}) & ours.keys())
    expected = {key: tree for key, tree in expected.items() if key not in absent}
    there = {int(found[1]) for name in ours if (found := LAYER.match(name))}
    if there == {*range(len(there))} and there and len(there) != section["num_layers"]:
        raise command.UserError(
            f"{source} has tensors of {numerals.count(len(there), 'layer')}, and its config.json num_hidden_layers "
            f"{section['num_layers']}: write {len(there)} there, or give the model's own weights"
        )
    names = _names(expected)
    missing, unexpected = names - ours.keys(), ours.keys() - names
    if missing:
        if any(".base_layer." in name or ".lora_" in name for name in unexpected):
            raise command.UserError(
                f"{source} has LoRA's tensors ({_listed(unexpected)}): merge them by merge_and_unload"
            )
        instead = f" and has {_listed(unexpected)} instead" if unexpected else ""
        raise command.UserError(f"{source} lacks {_listed(missing)}{instead}: fetch or export it again")
    if unexpected:
        raise command.UserError(
            f"{source} has {_listed(unexpected)}: not part of the BERT in config.json; save the encoder alone"
        )

    def take(path: KeyPath, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        array, shape = ours[_name(path)], leaf.shape[::-1] if _is_kernel(path) else leaf.shape
        if array.shape != shape:
            is_nsp = _name(path).startswith("cls.seq_relationship.")  # of StructBERT: config.json says nothing about it
            raise command.UserError(
                f"{source}: {_name(path)} is {array.shape}, but "
                + (
                    f"next sentence prediction needs {shape}; save the encoder alone"
                    if is_nsp
                    else f"config.json asks for {shape}; fix one of them"
                )
            )
        array = weights.as_float32(_name(path), array, source)
        return np.ascontiguousarray(array.T if _is_kernel(path) else array)

    return jax.tree_util.tree_map_with_path(take, expected), absent


def finetuned_heads(tensors: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Returns the fine-tuned heads among the tensors of a BERT class, which `from_hf` ignores."""
    return tuple(head for head in architectures.HEADS if head in map(_first, tensors))


def plain(tensors: Mapping[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
    """Returns the tensors with the names of today's BERT classes: with `bert.`, and without any other prefix.

    Programs that wrap a model put a prefix before all of its names, such as `module.`, or call the encoder otherwise.
    The position embeddings show where the encoder is. Raises UserError if there are none or several, or if the encoder
    is another model than a BERT.
    """
    names = {name: WRAPPERS.sub("", name) for name in tensors}
    anchors = sorted(name for name in names.values() if name == ANCHOR or name.endswith(f".{ANCHOR}"))
    if len(anchors) != 1:
        what = f"several encoders ({', '.join(anchors)})" if anchors else f"no {ANCHOR}, but {_listed(set(tensors))}"
        raise command.UserError(f"{source} has {what}: give a BERT with one encoder")
    root = anchors[0].removesuffix(ANCHOR)  # "bert.", "module.bert.", "bert_model.", ""
    *outer, module = ("", *root.split(".")[:-1])
    if module in OTHERS:
        raise command.UserError(f"{source} is {OTHERS[module]} (its tensors begin with {root}): give a BERT")
    prefix = ".".join([*outer[1:], ""]) if module == "bert" else root
    renamed: dict[str, np.ndarray] = {}
    for old, name in names.items():
        name = f"bert.{name.removeprefix(root)}" if _is_encoders(name, root) else name.removeprefix(prefix)
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        if name in renamed:
            raise command.UserError(f"{source} has two tensors for {name}, one is {old}: delete the wrong one")
        renamed[name] = tensors[old]
    return renamed


def _is_encoders(name: str, root: str) -> bool:
    return name.startswith(tuple(f"{root}{module}." for module in ("embeddings", "encoder", "pooler")))


def _first(name: str) -> str:
    return name.partition(".")[0]


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
