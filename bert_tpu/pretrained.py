"""A BERT to start from, whoever made it: a Hugging Face directory, a workdir of a pretraining, an imported model."""

from pathlib import Path

import jax

from bert_tpu import checkpoint, command, hf, layout, names, vocab, workdir


def load(path) -> hf.Pretrained:
    """The BERT that `path` holds, float32; of a workdir the newest sound checkpoint.

    Raises UserError that says what a path may be, where it is none of these.
    """
    path = Path(path)
    if (path / "model.safetensors").exists() or (path / "pytorch_model.bin").exists():
        return hf.load(path)
    if not path.is_dir():
        raise command.UserError(f"there is no {path}: give a Hugging Face directory, a workdir or an imported model")
    section = workdir.read_config(path)["model"] | {"dtype": "float32"}
    packed = checkpoint.load_params(checkpoint.find(path), like(section))
    return hf.Pretrained(layout.unpack(packed, section["vocab_size"]), section, vocab.load(path / "tokenizer"), ())


def like(section):
    """Shapes of the parameters in a checkpoint, each whole on one device here, wherever they were trained."""
    whole = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    packed = jax.eval_shape(layout.pack, names.shapes(section))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), packed)
