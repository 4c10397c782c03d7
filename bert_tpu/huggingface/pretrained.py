"""Loads a BERT from a Hugging Face directory, from a run's workdir or checkpoint, or from an imported model."""

from collections.abc import Mapping
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from etils import epath
import jax
import ml_collections
import numpy as np

from bert_tpu.core import command, downloads, json_files, numerals, storage
from bert_tpu.huggingface import hf
from bert_tpu.model import param_layout
from bert_tpu.tokenizer import vocab
from bert_tpu.training import jobs, nonfinite, saved_params, workdir

# Keys of the `model` section that give the weights their meaning. The others only say how to compute or train them.
MEANING = (
    "vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size", "max_positions", "type_vocab_size",
    "activation", "layer_norm_eps",
)  # fmt: skip


class Group(Protocol):
    """The hosts of a run, as distributed.hosts.Hosts."""

    count: int

    def agree(self, facts: dict[str, object]) -> None:
        """Raises Disagreement unless all hosts have the same `facts`."""


class Origin(NamedTuple):
    """Config and tokenizer of a BERT."""

    section: dict[str, Any]  # the `model` section of a config
    vocabulary: vocab.Vocab
    tokenizer: epath.Path  # the folder of the vocabulary
    absent: tuple[str, ...] = ()  # heads of an imported model that were drawn, because the original has none


def load_origin(path: Path | str) -> Origin:
    """Reads config and tokenizer of the BERT at `path`, without its weights. Uses no device.

    Raises UserError, with a list of what a path may be, if it is something else.
    """
    path = epath.Path(path)
    if hf.is_directory_of(path):
        return Origin(*hf.load_config(path), path)
    home = _home(path)
    config, tokenizer = _config(path, home), home / "tokenizer"
    section = workdir.model_section(config)
    vocabulary = vocab.load(tokenizer)
    hf.check_vocab(vocabulary, section, tokenizer)
    return Origin(section, vocabulary, tokenizer, tuple(config.get("absent", ())))


def load(path: Path | str) -> hf.Pretrained:
    """Returns the BERT at `path` in float32, of a workdir its newest sound checkpoint; UserError as `load_origin`."""
    if hf.is_directory_of(path):
        return hf.load(path)
    origin = load_origin(path)
    section = origin.section | {"dtype": "float32"}
    packed = saved_params.load_params(saved_params.find(path), shapes_on_device(section))
    params = param_layout.unpack(packed, section["vocab_size"])
    params = {name: tree for name, tree in params.items() if name not in origin.absent}
    return hf.Pretrained(params, section, origin.vocabulary, origin.absent)


def _home(path: epath.Path) -> epath.Path:
    """Returns the folder with config.json and tokenizer of `path`, which may be a checkpoint in it."""
    if not path.is_dir():
        wanted = "a Hugging Face directory, a run's workdir or checkpoint, or an imported model"
        raise command.UserError(hf.missing(path, wanted))
    path = path if storage.is_bucket(path) else path.resolve()  # it may be "." or a link to a checkpoint
    is_step = path.name.isdigit() and path.parent.name == "checkpoints"
    inside = {"checkpoints": path.parent, nonfinite.FOLDER: path.parent}
    # No other folder above: somebody may have copied another run's checkpoint there.
    homes = [path, path.parent.parent if is_step else inside.get(path.name, path)]
    return next((home for home in homes if (home / "config.json").exists()), path)


def _config(path: epath.Path, home: epath.Path) -> dict[str, Any]:
    """Returns the config.json in `home`, of a run or an imported model. Error messages name `path`."""
    if not (home / "config.json").exists():
        below = hf.config_below(path)
        instead = "the workdir where they were trained, a Hugging Face directory or an imported model"
        raise command.UserError(
            f"{path} has no config.json to say what its parameters mean: give "
            + (f"{below}, which has one" if below else instead)
        )
    downloads.check(home / "config.json")
    config = json_files.read(home / "config.json")
    if "task" in config:
        raise command.UserError(
            f"{path} is the workdir of a fine-tuning, with a model for each seed: export one, "
            f"bert-tpu export --workdir {home} --out MODEL, and give MODEL"
        )
    if "seeds" in config:
        seed = config["seeds"][0]
        raise command.UserError(f"{path} is a run of several seeds, with a model for each: give {home}/seed-{seed}")
    if not isinstance(config.get("model"), dict):
        raise command.UserError(
            f"{path} has a config.json, but it is not a run's, and there are no weights: add model.safetensors"
        )
    return config


def check_same(
    path: Path | str, section: Mapping[str, Any], vocabulary: vocab.Vocab, corpus: Path | str = "CORPUS"
) -> None:
    """Raises UserError unless the weights at `path` mean the same in a model of `section` with `vocabulary`.

    The message names every difference, with both values and a remedy. corpus: where `vocabulary` is from
    """
    origin = load_origin(path)
    others = {key: origin.section[key] for key in MEANING if origin.section[key] != section[key]}
    if len(origin.vocabulary.pieces) != len(vocabulary.pieces):
        others.pop("vocab_size", None)  # no flag makes a model of one vocabulary fit the other
    differences = [f"{key} is {value!r} there and {section[key]!r} here" for key, value in others.items()]
    remedies = []
    if others:
        flags = " ".join(f"--config.model.{key}={value}" for key, value in others.items())
        remedies.append(f"give {flags}, or --config bert:like, which takes all of them from init_from")
    if "activation" in others:
        remedies.append("to change the activation on purpose, import the model with another hidden_act in config.json")
    if difference := _vocabulary_difference(origin.vocabulary, vocabulary):
        differences.append(difference)
        remedies.append(
            f"prepare the corpus with --tokenizer {origin.tokenizer}, or give a copy of the model the corpus' pieces: "
            f"bert-tpu import --model {path} --tokenizer {corpus} --out COPY"
        )
    if differences:
        raise command.UserError(f"{path} is another model: {', '.join(differences)}; {'; '.join(remedies)}")


def check_vocabulary(path: Path | str, vocabulary: vocab.Vocab, corpus: Path | str) -> None:
    """Raises UserError unless the tokenizer of the BERT at `path` is `vocabulary`, that of the `corpus`."""
    origin = load_origin(path)
    if difference := _vocabulary_difference(origin.vocabulary, vocabulary):
        raise command.UserError(
            f"{path} has another tokenizer than {corpus}: {difference}; prepare the corpus with --tokenizer "
            f"{origin.tokenizer}, or give another model"
        )


def _vocabulary_difference(theirs: vocab.Vocab, ours: vocab.Vocab) -> str:
    """Returns how a model's tokenizer `theirs` differs from the corpus' `ours`; "" if they are the same."""
    parts = [f"its tokenizer {a} and the corpus' {b}" for a, b in vocab.differences(theirs, ours)]
    if len(theirs.pieces) != len(ours.pieces):
        parts.append(f"its tokenizer has {len(theirs.pieces):,} pieces and the corpus' {len(ours.pieces):,}")
    elif others := [i for i, (a, b) in enumerate(zip(theirs.pieces, ours.pieces, strict=True)) if a != b]:
        number = f"{numerals.count(len(others), 'piece')} of its tokenizer"
        verb = numerals.inflect(len(others), "[differs|differ]")
        first = f"{theirs.pieces[others[0]]!r} there and {ours.pieces[others[0]]!r} in the corpus"
        parts.append(f"{number} {verb} from the corpus', id {others[0]} is {first}")
    return ", ".join(parts)


def with_sizes(cfg: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Fills the keys of `cfg.model` that are None from the model in `init_from`, and returns `cfg`."""
    if all(value is not None for value in cfg.model.values()):
        return cfg
    if not cfg.init_from:
        raise command.UserError(
            "this config takes the model's sizes from a model to continue: give --config.init_from=MODEL, a Hugging "
            "Face directory, a run's workdir or an imported model"
        )
    section = load_origin(cfg.init_from).section
    with cfg.unlocked():
        for key, value in cfg.model.items():
            if value is None:
                cfg.model[key] = section[key]
    return cfg


def place_params(params: jobs.Params, template: jobs.Params, group: Group) -> jobs.Params:
    """Returns `params` as global arrays. Raises Disagreement if the hosts have read different weights.

    params: a tree that each host has read whole
    template: the same tree, whose leaves have the shardings
    group: the hosts.Hosts of the run
    """
    if group.count > 1:
        group.agree({"the SHA-256 of the weights in init_from": sha256(params)})

    def put(x: np.ndarray, leaf: Any) -> jax.Array:
        return jax.make_array_from_callback(x.shape, leaf.sharding, lambda index: x[index])

    return jax.tree.map(put, jax.device_get(params), template)


def sha256(params: jobs.Params, section: Mapping[str, Any] | None = None) -> str:
    """Returns the SHA-256 of the names and bytes of all leaves of `params`.

    section: the `model` section, whose keys in MEANING count, too. None: the run's config has these keys
    """
    digest = hashlib.sha256()
    if section:
        digest.update(json.dumps([section[key] for key in MEANING]).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf).data)
    return digest.hexdigest()


def shapes_on_device(section: Mapping[str, Any]) -> jobs.Params:
    """Returns `on_device` shapes of a pretraining checkpoint's parameters, for a `model` section."""
    return on_device(jax.eval_shape(param_layout.pack, param_layout.shapes(section)))


def on_device(shapes: jobs.Params) -> jobs.Params:
    """Returns a tree of shapes with the sharding "whole on one local device", for saved_params.load_params."""
    whole = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shapes)
