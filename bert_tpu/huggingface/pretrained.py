"""A BERT to start from: a Hugging Face directory, a run's workdir or one of its checkpoints, an imported model."""

import hashlib
from typing import Any, NamedTuple

from etils import epath
import jax
import numpy as np

from bert_tpu.core import command, storage
from bert_tpu.huggingface import hf
from bert_tpu.model import param_layout
from bert_tpu.tokenizer import vocab
from bert_tpu.training import checkpoint, nonfinite, workdir

# Keys of the `model` section that give the weights their meaning. The others only say how they are computed or trained.
MEANING = (
    "vocab_size", "hidden_size", "num_layers", "num_heads", "intermediate_size", "max_positions", "type_vocab_size",
    "activation", "layer_norm_eps",
)  # fmt: skip


class Origin(NamedTuple):
    """Config and tokenizer of a BERT, which are read before its weights."""

    section: dict[str, Any]  # the `model` section of a config
    vocabulary: vocab.Vocab
    tokenizer: epath.Path  # the folder that holds the vocabulary


def look(path) -> Origin:
    """Reads config and tokenizer of the BERT at `path`, no weights; asks for no device.

    Raises UserError that lists what a path may be, where it is none of these.
    """
    path = epath.Path(path)
    if is_hugging_face(path):
        return Origin(*hf.look(path), path)
    home = _home(path)
    section, tokenizer = _section(path, home), home / "tokenizer"
    vocabulary = vocab.load(tokenizer)
    hf.check_vocab(vocabulary, section, tokenizer)
    return Origin(section, vocabulary, tokenizer)


def load(path) -> hf.Pretrained:
    """Returns the BERT at `path` in float32; of a workdir the newest sound checkpoint. Raises UserError as `look`."""
    if is_hugging_face(path):
        return hf.load(path)
    origin = look(path)
    section = origin.section | {"dtype": "float32"}
    packed = checkpoint.load_params(checkpoint.find(path), like(section))
    return hf.Pretrained(param_layout.unpack(packed, section["vocab_size"]), section, origin.vocabulary, ())


def _home(path):
    """The folder with config.json and tokenizer for `path`, which may be a checkpoint inside it."""
    if not path.is_dir():
        raise command.UserError(
            f"there is no {path}: give a Hugging Face directory, a run's workdir or checkpoint, or an imported model"
        )
    path = path if storage.is_bucket(path) else path.resolve()  # which may be "." or a link to a checkpoint
    is_step = path.name.isdigit() and path.parent.name == "checkpoints"
    inside = {"checkpoints": path.parent, nonfinite.FOLDER: path.parent}
    # Not any folder above: another run's checkpoint may have been copied there.
    homes = [path, path.parent.parent if is_step else inside.get(path.name, path)]
    return next((home for home in homes if (home / "config.json").exists()), path)


def _section(path, home):
    """The `model` section in the config.json of `home`."""
    if not (home / "config.json").exists():
        raise command.UserError(
            f"{path} has no config.json to say what its parameters mean: give the workdir that they come from, a "
            "Hugging Face directory or an imported model"
        )
    config = workdir.read_json(home / "config.json")
    if "task" in config:
        raise command.UserError(
            f"{path} is a fine-tuning's, of {len(config['seeds'])} models: export one, "
            f"python -m tools.export_pytorch --workdir {home} --out MODEL, and give MODEL"
        )
    if not isinstance(config.get("model"), dict):
        raise command.UserError(
            f"{path} has a config.json, but neither that of a run nor weights next to it: put model.safetensors there"
        )
    return config["model"]


def is_hugging_face(path) -> bool:
    """Whether the directory `path` is of that form."""
    return any((epath.Path(path) / name).exists() for name in ("model.safetensors", "pytorch_model.bin"))


def check_same(path, section, vocabulary) -> None:
    """Raises UserError unless the weights at `path` mean the same in the model `section` with `vocabulary`.

    The sentence names every difference with both values and how to remove it.
    """
    origin = look(path)
    others = {key: origin.section[key] for key in MEANING if origin.section[key] != section[key]}
    differences = [f"{key} is {value!r} there and {section[key]!r} here" for key, value in others.items()]
    remedies = []
    if others:
        flags = " ".join(f"--config.model.{key}={value}" for key, value in others.items())
        remedies.append(f"give {flags}, or --config configs/bert.py:like, which takes all of them from init_from")
    if "activation" in others:
        remedies.append("to change the activation on purpose, import the model with another hidden_act in config.json")
    if apart := _vocabularies_apart(origin.vocabulary, vocabulary):
        differences.append(apart)
        remedies.append(f"prepare the corpus with --tokenizer {origin.tokenizer}")
    if differences:
        raise command.UserError(f"{path} is another model: {', '.join(differences)}; {'; '.join(remedies)}")


def _vocabularies_apart(theirs, ours):
    """How the tokenizer `theirs` of a model differs from `ours` of the corpus; "" where they are the same."""
    if vocab.sha256(theirs) == vocab.sha256(ours):
        return ""
    parts = []
    if theirs.lower != ours.lower:
        case = {True: "lowers text", False: "keeps case"}
        parts.append(f"its tokenizer {case[theirs.lower]} and the corpus' {case[ours.lower]}")
    if len(theirs.pieces) != len(ours.pieces):
        parts.append(f"its tokenizer has {len(theirs.pieces):,} pieces and the corpus' {len(ours.pieces):,}")
    elif others := [i for i, (a, b) in enumerate(zip(theirs.pieces, ours.pieces, strict=True)) if a != b]:
        first = f"{theirs.pieces[others[0]]!r} there and {ours.pieces[others[0]]!r} in the corpus"
        parts.append(f"{len(others):,} pieces of its tokenizer are others than the corpus', id {others[0]} is {first}")
    return ", ".join(parts)


def sized(cfg):
    """Returns `cfg` with the keys of its section `model` that are None taken from the model in `init_from`."""
    if all(value is not None for value in cfg.model.values()):
        return cfg
    if not cfg.init_from:
        raise command.UserError(
            "this config takes the model's sizes from a model to continue: give --config.init_from=MODEL, a Hugging "
            "Face directory, a run's workdir or an imported model"
        )
    section = look(cfg.init_from).section
    with cfg.unlocked():
        for key, value in cfg.model.items():
            if value is None:
                cfg.model[key] = section[key]
    return cfg


def place(params, like, group):
    """Returns `params`, which each host has read whole, as global arrays in the places of `like`.

    group: the Hosts; Disagreement is raised where they have read different weights.
    """
    if group.count > 1:
        group.agree({"the SHA-256 of the weights in init_from": sha256(params)})

    def placed(x, like):
        return jax.make_array_from_callback(x.shape, like.sharding, lambda index: x[index])

    return jax.tree.map(placed, jax.device_get(params), like)


def sha256(params) -> str:
    """The SHA-256 over names and bytes of all leaves of `params`."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(leaf))
    return digest.hexdigest()


def like(section):
    """Shapes of the parameters in a checkpoint of a pretraining, wherever they were trained."""
    return here(jax.eval_shape(param_layout.pack, param_layout.shapes(section)))


def here(shapes):
    """These shapes as checkpoint.load_params takes them, for arrays that are whole on one device here."""
    whole = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shapes)
