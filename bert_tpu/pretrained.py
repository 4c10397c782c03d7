"""A BERT to start from, whoever made it: a Hugging Face directory, a workdir of a pretraining, an imported model."""

from pathlib import Path

import jax

from bert_tpu import checkpoint, command, hf, layout, names, vocab, workdir


def load(path) -> hf.Pretrained:
    """The BERT that `path` holds, float32; of a workdir the newest sound checkpoint.

    Raises UserError that says what a path may be, where it is none of these.
    """
    path = Path(path)
    if is_hugging_face(path):
        return hf.load(path)
    section = _section(path) | {"dtype": "float32"}
    packed = checkpoint.load_params(checkpoint.find(path), like(section))
    return hf.Pretrained(layout.unpack(packed, section["vocab_size"]), section, vocab.load(path / "tokenizer"), ())


def vocabulary(path) -> vocab.Vocab:
    """The vocabulary of the BERT that `path` holds; no device is asked for, and UserError is raised as by `load`."""
    path = Path(path)
    if is_hugging_face(path):
        return vocab.load(path)
    _section(path)
    return vocab.load(path / "tokenizer")


def _section(path):
    """The `model` section of a pretraining's workdir."""
    if not path.is_dir():
        raise command.UserError(f"there is no {path}: give a Hugging Face directory, a workdir or an imported model")
    config = workdir.read_config(path)
    if "task" in config:
        raise command.UserError(
            f"{path} is a fine-tuning's, of {len(config['seeds'])} models: export one, "
            f"python -m tools.export_pytorch --workdir {path} --out MODEL, and give MODEL"
        )
    if not isinstance(config.get("model"), dict):
        raise command.UserError(
            f"{path} has a config.json, but neither that of a run nor weights beside it: put model.safetensors there"
        )
    return config["model"]


def is_hugging_face(path) -> bool:
    """Whether the directory `path` is of that form."""
    return any((Path(path) / name).exists() for name in ("model.safetensors", "pytorch_model.bin"))


def like(section):
    """Shapes of the parameters in a checkpoint of a pretraining, wherever they were trained."""
    return here(jax.eval_shape(layout.pack, names.shapes(section)))


def here(shapes):
    """These shapes as checkpoint.load_params takes them, for arrays that are whole on one device here."""
    whole = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), shapes)
