"""Exports a run's newest parameters as a Hugging Face directory, once PyTorch computes the same logits from it."""

from collections.abc import Callable
import functools
import importlib.util
from pathlib import Path
import sys
from typing import Any, NamedTuple

from etils import epath
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

TOLERANCE = 1e-4  # of a float32 logit; a trained 6-layer encoder differed by 1.2e-5
ROWS = 4  # of the compared batch: 250 MB of logits at 512 x 30,522

# A batch of ids, types and mask -> {name: float32 [B, C] or [B, L, C]}.
Logits = Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


class Comparison(NamedTuple):
    """A comparison of the logits of PyTorch and JAX. The model card's metadata has it with these keys."""

    difference: float  # the largest of any logit
    rows: int
    versions: str  # of transformers, torch and jax


class Export(NamedTuple):
    """The class of the exported model, and the checkpoint that it came from."""

    name: str
    checkpoint: epath.Path
    note: str  # for a fine-tuned model: its seed, and why this one
    comparison: Comparison | None  # None if PyTorch is not installed


def export(directory: str | Path, out: str | Path, seed: int | None = None) -> Export:
    """Writes the model of the workdir `directory` to the new directory `out`.

    seed: which model of a fine-tuning to export; None for the best, as finetuned.load chooses it.
    Raises UserError, and leaves no `out`, if a logit differs by more than TOLERANCE.
    """
    directory = Path(directory)
    config = workdir.read_config(directory)
    if "task" not in config and seed is not None:
        raise command.UserError(f"{directory} is not a fine-tuning's and has one model: leave out --seed")
    with storage.atomic_directory(out) as folder:
        vocabulary, run = vocab.load(directory / "tokenizer"), evidence.read(directory, config)
        if "task" in config:
            return _export_finetuned(finetuned.load(directory, config, seed), run, vocabulary, folder)
        return _export_pretrained(checkpoint.find(directory), run, vocabulary, folder)


def _export_pretrained(newest: epath.Path, run: evidence.Evidence, vocabulary: vocab.Vocab, folder: Path) -> Export:
    section = run.config["model"] | {"dtype": "float32"}
    params = param_layout.unpack(
        checkpoint.load_params(newest, pretrained.shapes_on_device(section)), section["vocab_size"]
    )
    hf.save(folder, params, section, vocabulary)
    [name] = architectures.PRETRAINED["architectures"]
    comparison = _check_if_possible(folder, name, section, functools.partial(_pretrained_logits, params, section))
    facts = model_card.export_facts(run.config, newest.name, comparison and comparison._asdict())
    text = model_card.pretrained(folder.name, section, run, facts)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return Export(name, newest, "", comparison)


def _export_finetuned(
    tuned: finetuned.Finetuned, run: evidence.Evidence, vocabulary: vocab.Vocab, folder: Path
) -> Export:
    section, packed, cls = tuned.section, tuned.params, architectures.FINETUNED[tuned.model.head]
    encoder = {k: v for k, v in packed.items() if k != "head" and (k != "pooler" or cls.has_pooler)}
    params = param_layout.trim(encoder, section["vocab_size"]) | {cls.head: packed["head"]}
    hf.save(folder, params, section, vocabulary, architectures.config(cls, tuned.labels))
    logits = functools.partial(_finetuned_logits, tuned.model, packed)
    comparison = _check_if_possible(folder, cls.name, section, logits)
    facts = model_card.export_facts(run.config, tuned.checkpoint.name, comparison and comparison._asdict())
    model = model_card.FinetunedModel(
        cls.name, cls.pipeline_tag, section, tuned.labels, tuned.seed, tuned.reason, tuned.scores
    )
    text = model_card.finetuned(folder.name, model, run, facts)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return Export(cls.name, tuned.checkpoint, f"seed {tuned.seed}, {tuned.reason}", comparison)


def _check_if_possible(directory: Path, name: str, section: dict[str, Any], logits: Logits) -> Comparison | None:
    return check(directory, name, section, logits) if _is_torch_installed() else None


def check(directory: Path, name: str, section: dict[str, Any], logits: Logits) -> Comparison:
    """Compares the logits of JAX with those of PyTorch, for every row and every real token of ROWS rows.

    directory: the exported model.
    name: its class in transformers.
    section: the `model` section of the config.
    logits: the function that computes the logits in JAX.
    Raises UserError if transformers cannot load the model, or if a logit differs by more than TOLERANCE.
    """
    import torch
    import transformers

    batch = _batch(section)
    is_token_BL = batch["attention_mask"].astype(bool)
    theirs = _torch_logits(directory, name, batch)
    pairs = {f"{kind} logits": (ours, theirs[kind]) for kind, ours in logits(batch).items()}
    difference = compare("PyTorch", pairs, is_token_BL, "exported")
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}, jax {jax.__version__}"
    return Comparison(difference, ROWS, versions)


def compare(other: str, pairs: dict[str, tuple[np.ndarray, np.ndarray]], is_token_BL: np.ndarray, verb: str) -> float:
    """Returns the largest difference in `pairs`.

    other: the program that is compared, such as PyTorch.
    pairs: name of an output -> (our array, the other's), [B, C] or [B, L, C].
    is_token_BL: bool, False at padding, where arrays [B, L, C] are not compared.
    verb: the error says that nothing was, for example, "exported".
    Raises UserError if a difference is larger than TOLERANCE.
    """
    worst = 0.0
    for name, (ours, theirs) in pairs.items():
        distance = np.abs(ours - theirs)
        # Nobody reads the outputs at a [PAD], where PyTorch is ten times as far from float64 as elsewhere.
        difference = float(np.max(distance[is_token_BL] if distance.ndim == 3 else distance))
        if not difference <= TOLERANCE:  # so that a NaN fails too
            raise command.UserError(
                f"{other} computes another model: {name} differ by up to {difference:.2g}, more than {TOLERANCE:g}; "
                f"nothing was {verb}"
            )
        worst = max(worst, difference)
    return worst


def _is_torch_installed() -> bool:
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        print(
            f"warning: {' and '.join(missing)} not installed, so the export is not compared with PyTorch",
            file=sys.stderr,
        )
    return not missing


def _batch(section: dict[str, Any]) -> dict[str, np.ndarray]:
    """ROWS rows of random pieces in two segments, row r padded after r / ROWS of the positions."""
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


def _pretrained_logits(
    params: dict[str, Any], section: dict[str, Any], batch: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    shape = batch["input_ids"].shape
    everywhere = jnp.broadcast_to(jnp.arange(shape[1]), shape)
    with jax.default_matmul_precision("highest"):
        apply = jax.jit(transformer.Bert(**section).apply)
        inputs = (batch[name] for name in ("input_ids", "token_type_ids", "attention_mask"))
        logits = apply({"params": params}, *inputs, everywhere)
    return {"MLM": np.asarray(logits.mlm_BMV), "NSP": np.asarray(logits.nsp_BC)}


def _finetuned_logits(
    tuned: heads.Model, params: dict[str, Any], batch: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    with jax.default_matmul_precision("highest"):
        return {tuned.head: np.asarray(jax.jit(functools.partial(heads.outputs, tuned))(params, batch))}


def _torch_logits(directory: Path, name: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Logits of the class `name` by PyTorch. Those of a fine-tuned class are under every head that has this class."""
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # its report of the keys becomes our one sentence below
    classes: dict[str, Any] = {
        "BertForPreTraining": transformers.BertForPreTraining,
        "BertForSequenceClassification": transformers.BertForSequenceClassification,
        "BertForTokenClassification": transformers.BertForTokenClassification,
        "BertForQuestionAnswering": transformers.BertForQuestionAnswering,
    }
    loaded, info = classes[name].from_pretrained(directory, output_loading_info=True, ignore_mismatched_sizes=True)
    if complaints := {key: sorted(map(str, names)) for key, names in info.items() if names}:
        raise command.UserError(
            f"transformers {transformers.__version__} loads it with {complaints}; nothing was exported"
        )
    with torch.no_grad():
        outputs = loaded.eval()(**{name: torch.from_numpy(array).long() for name, array in batch.items()})
    match name:
        case "BertForPreTraining":
            return {"MLM": outputs.prediction_logits.numpy(), "NSP": outputs.seq_relationship_logits.numpy()}
        case "BertForQuestionAnswering":
            return {"span": np.stack([outputs.start_logits, outputs.end_logits], axis=-1)}
    return {head: outputs.logits.numpy() for head, cls in architectures.FINETUNED.items() if cls.name == name}
