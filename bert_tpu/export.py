"""A run's newest parameters as a Hugging Face directory, published once PyTorch computes the same from it."""

import importlib.util
from pathlib import Path
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bert_tpu import checkpoint, command, hf, layout, model, names, publish, vocab, workdir

TOLERANCE = 1e-4  # of a logit, float32: a trained 6-layer encoder measured 1.2e-5
ROWS = 4  # 250 MB of logits at 512 x 30,522

README = """\
---
library_name: transformers
pipeline_tag: fill-mask
---
# BERT {size}

{facts}

    from transformers import AutoTokenizer, BertForPreTraining, pipeline

    model = BertForPreTraining.from_pretrained("{name}")
    tokenizer = AutoTokenizer.from_pretrained("{name}")
    pipeline("fill-mask", "{name}")("text with [MASK]")
"""


class Checked(NamedTuple):
    """How far PyTorch's logits are from JAX's, at most, and by which versions."""

    difference: float
    versions: str


class Exported(NamedTuple):
    """The checkpoint that was exported; `checked` is None where no PyTorch is installed to check it."""

    checkpoint: Path
    checked: Checked | None


def export(directory, out) -> Exported:
    """`out` holds the model of the workdir `directory`.

    Raises UserError, and leaves no `out`, if a logit differs by more than TOLERANCE.
    """
    directory = Path(directory)
    config = workdir.read_config(directory)
    section = config["model"] | {"dtype": "float32"}
    found = checkpoint.find(directory)
    with publish.directory(out) as made:
        params = layout.unpack(checkpoint.load_params(found, _like(section)), section["vocab_size"])
        hf.save(made, params, section, vocab.load(directory / "tokenizer"))
        checked = check(made, params, section) if _torch_is_here() else None
        (made / "README.md").write_text(_readme(made.name, section, found, config, checked))
    return Exported(found, checked)


def check(directory, params, section) -> Checked:
    """Raises UserError unless BertForPreTraining.from_pretrained(directory) gives the logits of `params`.

    All MLM logits of every real token and the NSP logits are compared, over ROWS rows of up to max_positions.
    """
    import torch
    import transformers

    batch = _batch(section)
    real = batch["attention_mask"].astype(bool)
    # Nobody reads what comes out at a [PAD], and there PyTorch is ten times as far from float64 as elsewhere.
    ours, theirs = (
        {"MLM": logits["MLM"][real], "NSP": logits["NSP"]}
        for logits in (_jax_logits(params, section, batch), _torch_logits(directory, batch))
    )
    differences = {name: float(np.max(np.abs(ours[name] - theirs[name]))) for name in ours}
    for name, difference in differences.items():
        if not difference <= TOLERANCE:  # so that a NaN fails too
            raise command.UserError(
                f"PyTorch computes another model: {name} logits differ by up to {difference:.2g}, "
                f"more than {TOLERANCE:g}; nothing was exported"
            )
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}, jax {jax.__version__}"
    return Checked(max(differences.values()), versions)


def _like(section):
    """Shapes of the parameters, each whole on one device here, wherever they were trained."""
    whole = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    packed = jax.eval_shape(layout.pack, names.shapes(section))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), packed)


def _torch_is_here():
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"warning: {' and '.join(missing)} not installed, so the export is not compared with PyTorch",
            file=sys.stderr,
        )
    return not missing


def _batch(section):
    """Rows of random pieces in two segments, padded from 1/ROWS of the positions to none."""
    rng = np.random.default_rng(0)
    shape = ROWS, section["max_positions"]
    place = np.arange(shape[1])
    length = np.linspace(0, shape[1], ROWS + 1, dtype=int)[1:, None]
    real = place < length
    return {
        "input_ids": np.where(real, rng.integers(section["vocab_size"], size=shape), 0).astype(np.int32),
        "token_type_ids": (real & (place >= length // 2)).astype(np.int32) % section["type_vocab_size"],
        "attention_mask": real.astype(np.int32),
    }


def _jax_logits(params, section, batch):
    shape = batch["input_ids"].shape
    everywhere = jnp.broadcast_to(jnp.arange(shape[1]), shape)
    with jax.default_matmul_precision("highest"):
        apply = jax.jit(model.Bert(**section).apply)
        inputs = (batch[name] for name in ("input_ids", "token_type_ids", "attention_mask"))
        logits = apply({"params": params}, *inputs, everywhere)
    return {"MLM": np.asarray(logits.mlm_BMV), "NSP": np.asarray(logits.nsp_BC)}


def _torch_logits(directory, batch):
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # its report of the keys is our one sentence
    loaded, info = transformers.BertForPreTraining.from_pretrained(
        directory, output_loading_info=True, ignore_mismatched_sizes=True
    )
    if complaints := {key: sorted(map(str, found)) for key, found in info.items() if found}:
        raise command.UserError(
            f"transformers {transformers.__version__} loads it with {complaints}; nothing was exported"
        )
    with torch.no_grad():
        logits = loaded.eval()(**{name: torch.from_numpy(array).long() for name, array in batch.items()})
    return {"MLM": logits.prediction_logits.numpy(), "NSP": logits.seq_relationship_logits.numpy()}


def _readme(name, section, found, config, checked):
    """What is known of the model; `found` is its checkpoint."""
    size = f"L{section['num_layers']} H{section['hidden_size']} A{section['num_heads']}"
    facts = [
        f"- layers, hidden size, attention heads: {size}; feed-forward {section['intermediate_size']:,}, "
        f"positions {section['max_positions']:,}, vocabulary {section['vocab_size']:,}",
        "- heads: masked language model, next sentence prediction",
    ]
    if found.name.isdigit():
        facts += [f"- trained for {int(found.name):,} steps"]
    if "corpus" in config:
        facts += [f"- corpus: sha256 {config['corpus']['sha256']}"]
    if checked:
        facts += [
            f"- checked against PyTorch: {ROWS} rows of up to {section['max_positions']:,} tokens, float32; "
            f"no logit differs by more than {checked.difference:.1e} ({checked.versions})"
        ]
    else:
        facts += ["- not checked against PyTorch: it was not installed"]
    return README.format(name=name, size=size, facts="\n".join(facts))
