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
from bert_tpu.export import user_rows
from bert_tpu.finetune import finetuned, heads
from bert_tpu.huggingface import architectures, hf, pretrained, sentence_transformers, spare_rows
from bert_tpu.model import param_layout, transformer
from bert_tpu.report import evidence, model_card
from bert_tpu.tokenizer import vocab
from bert_tpu.training import saved_params, workdir

TOLERANCE = 1e-4  # of a float32 logit; a trained 6-layer encoder differed by 1.2e-5
ROWS = 4  # of random pieces

# A row's ids, types and mask, [1, L] each -> {name: float32 [1, C] or [1, L, C]}.
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
    note: str  # for a fine-tuned model: its seed, and why this one; for an imported encoder: its untrained heads
    comparison: Comparison | None  # None if PyTorch is not installed
    seed: int | None = None  # of a fine-tuned model


def export(
    directory: str | Path, out: str | Path, seed: int | None = None, *, step: int | None = None, name: str = "",
    pool: str = "",
) -> Export:  # fmt: skip
    """Writes the model of the workdir `directory` to the new directory `out`.

    seed: which model of a fine-tuning to export; None for the best, as finetuned.load chooses it.
    step: of the checkpoint; None for the newest sound one.
    name: of the model in its card; "" for the name of `out`.
    pool: a key of sentence_transformers.MODES, to write the files of sentence-transformers too; "" for none.
    Raises UserError, and leaves no `out`, if a logit differs by more than TOLERANCE.
    """
    directory = Path(directory)
    config = workdir.read_config(directory)
    if "task" not in config and seed is not None:
        raise command.UserError(f"{directory} is not a fine-tuning's and has one model: leave out --seed")
    with storage.atomic_directory(out) as folder:
        name = name or folder.name
        vocabulary = vocab.load(directory / "tokenizer")
        if "task" in config:
            tuned = finetuned.load(directory, config, seed, step)
            run = evidence.read(directory, config, _step(tuned.checkpoint))
            done = _export_finetuned(tuned, run, vocabulary, folder, name)
        else:
            path = saved_params.find(directory, step)
            run = evidence.read(directory, config, _step(path))
            done = _export_pretrained(path, run, vocabulary, folder, name)
        if pool:
            sentence_transformers.write(folder, pool)
        return done


def _step(path: epath.Path) -> int | None:
    return int(path.name) if path.name.isdigit() else None  # None for an imported model


def _export_pretrained(
    path: epath.Path, run: evidence.Evidence, vocabulary: vocab.Vocab, folder: Path, name: str
) -> Export:
    section = workdir.model_section(run.config) | {"dtype": "float32"}
    params = param_layout.unpack(
        saved_params.load_params(path, pretrained.shapes_on_device(section)), section["vocab_size"]
    )
    spare = spare_rows.read(path)  # of an imported model; a run has none
    hf.save(folder, params, section, vocabulary, spare=spare)
    [cls] = architectures.PRETRAINED["architectures"]
    logits = _pretrained_logits(*spare_rows.join(params, section, spare))
    comparison = _check_if_possible(folder, cls, section, vocabulary, logits)
    facts = model_card.export_facts(run.config, path.name, comparison and comparison._asdict())
    text = model_card.pretrained(name, section, run, facts)
    (folder / "README.md").write_text(text, encoding="utf-8")
    drawn = ", ".join(run.config.get("absent", ()))  # heads that an imported encoder did not have
    return Export(cls, path, f"drawn at random and not trained: {drawn}" if drawn else "", comparison)


def _export_finetuned(
    tuned: finetuned.Finetuned, run: evidence.Evidence, vocabulary: vocab.Vocab, folder: Path, name: str
) -> Export:
    section, packed, cls = tuned.section, tuned.params, architectures.FINETUNED[tuned.model.head]
    encoder = {k: v for k, v in packed.items() if k != "head" and (k != "pooler" or cls.has_pooler)}
    params = param_layout.trim(encoder, section["vocab_size"]) | {cls.head: packed["head"]}
    hf.save(folder, params, section, vocabulary, architectures.config(cls, tuned.labels))
    logits = _finetuned_logits(tuned.model, packed)
    comparison = _check_if_possible(folder, cls.name, section, vocabulary, logits)
    facts = model_card.export_facts(run.config, tuned.checkpoint.name, comparison and comparison._asdict())
    model = model_card.FinetunedModel(
        cls.name, cls.pipeline_tag, section, tuned.labels, tuned.seed, tuned.reason, tuned.scores
    )
    text = model_card.finetuned(name, model, run, facts)
    (folder / "README.md").write_text(text, encoding="utf-8")
    return Export(cls.name, tuned.checkpoint, f"seed {tuned.seed}, {tuned.reason}", comparison, tuned.seed)


def _check_if_possible(
    directory: Path, name: str, section: dict[str, Any], vocabulary: vocab.Vocab, logits: Logits
) -> Comparison | None:
    return check(directory, name, section, vocabulary, logits) if _is_torch_installed() else None


def check(directory: Path, name: str, section: dict[str, Any], vocabulary: vocab.Vocab, logits: Logits) -> Comparison:
    """Compares JAX with PyTorch on ROWS rows of random pieces, and on texts and pairs as a user gives them.

    Their ids, types and masks must be equal, and the logits of every row and every real token.

    directory: the exported model.
    name: its class in transformers.
    section: the `model` section of the config.
    vocabulary: the tokenizer.
    logits: the function that computes the logits in JAX.
    Raises UserError if transformers cannot load the model, tokenizes a text differently, or if a logit differs by more
    than TOLERANCE.
    """
    import torch
    import transformers

    batches = [*_random_rows(section), *user_rows.encode(directory, section, vocabulary)]
    model, worst = _torch_model(directory, name), 0.0
    for batch in batches:  # one at a time: 512 x 501,153 logits are 1 GB
        length = batch["input_ids"].shape[1]
        ours = logits(_padded(batch, section["max_positions"]))
        theirs = _torch_logits(model, name, batch)
        pairs = {f"{kind} logits": (x[:, :length] if x.ndim == 3 else x, theirs[kind]) for kind, x in ours.items()}
        worst = max(worst, compare("PyTorch", pairs, batch["attention_mask"].astype(bool), "exported"))
    versions = f"transformers {transformers.__version__}, torch {torch.__version__}, jax {jax.__version__}"
    return Comparison(worst, len(batches), versions)


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
            f"warning: {' and '.join(missing)} not installed, so the export is not compared with PyTorch; "
            "pip install 'bert_tpu[onnx]' brings both",
            file=sys.stderr,
        )
    return not missing


def _random_rows(section: dict[str, Any]) -> list[dict[str, np.ndarray]]:
    """ROWS rows of random pieces in two segments, row r padded after r / ROWS of the positions."""
    rng = np.random.default_rng(0)
    shape = ROWS, section["max_positions"]
    place = np.arange(shape[1])
    length = np.linspace(0, shape[1], ROWS + 1, dtype=int)[1:, None]
    real = place < length
    batch = {
        "input_ids": np.where(real, rng.integers(section["vocab_size"], size=shape), 0).astype(np.int32),
        "token_type_ids": (real & (place >= length // 2)).astype(np.int32) % section["type_vocab_size"],
        "attention_mask": real.astype(np.int32),
    }
    return [{name: array[row : row + 1] for name, array in batch.items()} for row in range(ROWS)]


def _padded(batch: dict[str, np.ndarray], length: int) -> dict[str, np.ndarray]:
    """Returns a row padded to `length` tokens, so that one program serves all."""
    return {name: np.pad(array, ((0, 0), (0, length - array.shape[1]))) for name, array in batch.items()}


def _pretrained_logits(params: dict[str, Any], section: dict[str, Any]) -> Logits:
    apply, params = jax.jit(transformer.Bert(**section).apply), jax.device_put(params)

    def logits(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        shape = batch["input_ids"].shape
        everywhere = jnp.broadcast_to(jnp.arange(shape[1]), shape)
        inputs = (batch[name] for name in ("input_ids", "token_type_ids", "attention_mask"))
        with jax.default_matmul_precision("highest"):
            scores: Any = apply({"params": params}, *inputs, everywhere)
        return {"MLM": np.asarray(scores.mlm_BMV), "NSP": np.asarray(scores.nsp_BC)}

    return logits


def _finetuned_logits(tuned: heads.Model, params: dict[str, Any]) -> Logits:
    outputs = jax.jit(functools.partial(heads.outputs, tuned))

    def logits(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with jax.default_matmul_precision("highest"):
            return {tuned.head: np.asarray(outputs(params, batch))}

    return logits


def _torch_model(directory: Path, name: str) -> Any:
    """The model in `directory` as the class `name` of transformers. Raises UserError unless it has every tensor."""
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
    return loaded.eval()


def _torch_logits(model: Any, name: str, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Logits of the class `name` by PyTorch. Those of a fine-tuned class are under every head that has this class."""
    import torch

    with torch.no_grad():
        outputs = model(**{name: torch.from_numpy(array).long() for name, array in batch.items()})
    match name:
        case "BertForPreTraining":
            return {"MLM": outputs.prediction_logits.numpy(), "NSP": outputs.seq_relationship_logits.numpy()}
        case "BertForQuestionAnswering":
            return {"span": np.stack([outputs.start_logits, outputs.end_logits], axis=-1)}
    return {head: outputs.logits.numpy() for head, cls in architectures.FINETUNED.items() if cls.name == name}
