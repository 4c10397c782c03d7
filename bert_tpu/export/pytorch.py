"""A run's newest parameters as a Hugging Face directory, published once PyTorch computes the same from it."""

import functools
import importlib.util
from pathlib import Path
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bert_tpu.core import command, storage
from bert_tpu.finetune import finetuned, heads
from bert_tpu.huggingface import architectures, hf, pretrained
from bert_tpu.model import param_layout, transformer
from bert_tpu.report import evidence, model_card
from bert_tpu.tokenizer import vocab
from bert_tpu.training import checkpoint, workdir

TOLERANCE = 1e-4  # of a logit, float32: a trained 6-layer encoder measured 1.2e-5
ROWS = 4  # 250 MB of logits at 512 x 30,522


class Checked(NamedTuple):
    """How far PyTorch's logits are from JAX's, at most, in how many rows, and by which versions."""

    difference: float
    rows: int
    versions: str


class Exported(NamedTuple):
    """The class, and the checkpoint that was exported; `checked` is None where no PyTorch is installed to check it."""

    name: str
    checkpoint: Path
    note: str  # which seed it is and why, of a fine-tuned model
    checked: Checked | None


def export(directory, out, seed=None) -> Exported:
    """`out` holds the model of the workdir `directory`; of a fine-tuning's that of `seed`, as finetuned.load chooses.

    Raises UserError, and leaves no `out`, if a logit differs by more than TOLERANCE.
    """
    directory = Path(directory)
    config = workdir.read_config(directory)
    if "task" not in config and seed is not None:
        raise command.UserError(f"{directory} is no fine-tuning's and has one model: leave out --seed")
    with storage.atomic_directory(out) as made:
        vocabulary = vocab.load(directory / "tokenizer")
        if "task" in config:
            return _finetuned(
                finetuned.load(directory, config, seed), evidence.read(directory, config), vocabulary, made
            )
        return _pretrained(checkpoint.find(directory), evidence.read(directory, config), vocabulary, made)


def _pretrained(found, measured, vocabulary, made):
    section = measured.config["model"] | {"dtype": "float32"}
    params = param_layout.unpack(checkpoint.load_params(found, pretrained.like(section)), section["vocab_size"])
    hf.save(made, params, section, vocabulary)
    [name] = architectures.PRETRAINED["architectures"]
    checked = _check_if_possible(made, name, section, functools.partial(_pretrained_logits, params, section))
    text = model_card.pretrained(
        made.name, section, measured, model_card.export_facts(measured.config, found.name, checked)
    )
    (made / "README.md").write_text(text, encoding="utf-8")
    return Exported(name, found, "", checked)


def _finetuned(tuned, measured, vocabulary, made):
    section, packed, cls = tuned.section, tuned.params, architectures.FINETUNED[tuned.model.head]
    encoder = {k: v for k, v in packed.items() if k != "head" and (k != "pooler" or cls.has_pooler)}
    params = param_layout.trim(encoder, section["vocab_size"]) | {cls.head: packed["head"]}
    hf.save(made, params, section, vocabulary, architectures.config(cls, tuned.labels))
    checked = _check_if_possible(made, cls.name, section, functools.partial(_finetuned_logits, tuned.model, packed))
    text = model_card.finetuned(
        made.name, cls, tuned, measured, model_card.export_facts(measured.config, tuned.checkpoint.name, checked)
    )
    (made / "README.md").write_text(text, encoding="utf-8")
    return Exported(cls.name, tuned.checkpoint, f"seed {tuned.seed}, {tuned.reason}", checked)


def _check_if_possible(directory, name, section, logits):
    return check(directory, name, section, logits) if _torch_is_here() else None


def check(directory, name, section, logits) -> Checked:
    """Raises UserError unless the class `name` of transformers, loaded from `directory`, has the logits of JAX.

    logits: batch -> {name: float32 [B, C] or [B, L, C]}. Those of every row and of every real token are compared, over
    ROWS rows of up to max_positions.
    """
    import torch
    import transformers

    batch = _batch(section)
    real = batch["attention_mask"].astype(bool)
    theirs = _torch_logits(directory, name, batch)
    pairs = {f"{kind} logits": (said, theirs[kind]) for kind, said in logits(batch).items()}
    difference = compare("PyTorch", pairs, real, "exported")
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}, jax {jax.__version__}"
    return Checked(difference, ROWS, versions)


def compare(other, pairs, real, done) -> float:
    """The largest difference in `pairs`, {name: two arrays of what one model says, by us and by `other`}.

    real: bool [B, L], the tokens; arrays [B, L, C] are compared at those alone. Raises UserError
    that nothing was `done` if one is larger than TOLERANCE.
    """
    worst = 0.0
    for name, (ours, theirs) in pairs.items():
        apart = np.abs(ours - theirs)
        # Nobody reads what comes out at a [PAD], and there PyTorch is ten times as far from float64 as elsewhere.
        difference = float(np.max(apart[real] if apart.ndim == 3 else apart))
        if not difference <= TOLERANCE:  # so that a NaN fails too
            raise command.UserError(
                f"{other} computes another model: {name} differ by up to {difference:.2g}, more than {TOLERANCE:g}; "
                f"nothing was {done}"
            )
        worst = max(worst, difference)
    return worst


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


def _pretrained_logits(params, section, batch):
    shape = batch["input_ids"].shape
    everywhere = jnp.broadcast_to(jnp.arange(shape[1]), shape)
    with jax.default_matmul_precision("highest"):
        apply = jax.jit(transformer.Bert(**section).apply)
        inputs = (batch[name] for name in ("input_ids", "token_type_ids", "attention_mask"))
        logits = apply({"params": params}, *inputs, everywhere)
    return {"MLM": np.asarray(logits.mlm_BMV), "NSP": np.asarray(logits.nsp_BC)}


def _finetuned_logits(tuned, params, batch):
    with jax.default_matmul_precision("highest"):
        return {tuned.head: np.asarray(jax.jit(functools.partial(heads.outputs, tuned))(params, batch))}


def _torch_logits(directory, name, batch):
    """Logits of the class `name`; those of a fine-tuned one under every name of our heads for it."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # its report of the keys is our one sentence
    loaded, info = {
        "BertForPreTraining": transformers.BertForPreTraining,
        "BertForSequenceClassification": transformers.BertForSequenceClassification,
        "BertForTokenClassification": transformers.BertForTokenClassification,
        "BertForQuestionAnswering": transformers.BertForQuestionAnswering,
    }[name].from_pretrained(directory, output_loading_info=True, ignore_mismatched_sizes=True)
    if complaints := {key: sorted(map(str, found)) for key, found in info.items() if found}:
        raise command.UserError(
            f"transformers {transformers.__version__} loads it with {complaints}; nothing was exported"
        )
    with torch.no_grad():
        said = loaded.eval()(**{name: torch.from_numpy(array).long() for name, array in batch.items()})
    match name:
        case "BertForPreTraining":
            return {"MLM": said.prediction_logits.numpy(), "NSP": said.seq_relationship_logits.numpy()}
        case "BertForQuestionAnswering":
            return {"span": np.stack([said.start_logits, said.end_logits], axis=-1)}
    return {head: said.logits.numpy() for head, cls in architectures.FINETUNED.items() if cls.name == name}
