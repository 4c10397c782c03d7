"""Reads the TensorFlow 1 checkpoints of google-research/bert, with TensorFlow's own reader."""

import re
import sys
from typing import Any

from etils import epath
import numpy as np

from bert_tpu.core import command, numerals, storage
from bert_tpu.tokenizer import vocab

CONFIG = "bert_config.json"
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"  # in every TensorFlow 2 checkpoint
REMEDY = "fetch the model again, with the files .index, .data-00000-of-00001, bert_config.json and vocab.txt"
# Variables that are not of the model: of the optimizer and of mixed precision.
COUNTERS = re.compile(r"(global_step|beta[12]_power|good_steps|loss_scale|current_loss_scale)(:\d+)?")
# The heads of run_classifier.py and run_squad.py have the names of Hugging Face's heads here.
RENAMED = {
    "cls/predictions/output_bias": "cls.predictions.bias",
    "cls/seq_relationship/output_weights": "cls.seq_relationship.weight",
    "cls/seq_relationship/output_bias": "cls.seq_relationship.bias",
    "output_weights": "classifier.weight",
    "output_bias": "classifier.bias",
    "cls/squad/output_weights": "qa_outputs.weight",
    "cls/squad/output_bias": "qa_outputs.bias",
}
TABLES = ("word_embeddings", "position_embeddings", "token_type_embeddings")
LEAVES = {"kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias"}
# As validate_case_matches_checkpoint of google-research/bert knows its downloads.
LOWERED, KEPT = re.compile(r"(wwm_)?uncased_|multilingual_L|chinese_L"), re.compile(r"(wwm_)?cased_|multi_cased_")


def is_checkpoint(directory: epath.Path) -> bool:
    """Returns whether `directory` has a TensorFlow checkpoint."""
    return bool(_prefixes(directory))


def read(directory: epath.Path) -> dict[str, np.ndarray]:
    """Returns the model's tensors with Hugging Face's names. Prints, on standard error, what it leaves out.

    Raises UserError if the files are damaged or are not a checkpoint of google-research/bert.
    """
    command.quiet_tensorflow()
    import tensorflow as tf

    prefix = _choose(directory)
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = sorted(reader.get_variable_to_shape_map())
        if OBJECT_GRAPH in names:
            raise command.UserError(
                f"{prefix} is a TensorFlow 2 checkpoint: give the same model's TensorFlow 1 files, with names such as "
                "bert/embeddings/word_embeddings, or its Hugging Face directory"
            )
        kept = [name for name in names if not _is_optimizers(name, names)]
        tensors = {_hf_name(name): _oriented(name, reader.get_tensor(name)) for name in kept}
    except (tf.errors.OpError, ValueError, IndexError) as error:  # the last: a file that was cut
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise command.UserError(f"{prefix} cannot be read ({reason}): {REMEDY}") from None
    if len(tensors) < len(kept):
        raise command.UserError(f"{prefix} has two variables for one tensor: {REMEDY}")
    left = f"; variables of the optimizer, left out: {len(names) - len(kept):,}" if len(kept) < len(names) else ""
    print(
        f"{directory} is a TensorFlow checkpoint: {prefix.name} with {numerals.count(len(kept), 'variable')}{left}",
        file=sys.stderr,
    )
    return tensors


def check_case(directory: epath.Path, vocabulary: vocab.Vocab) -> None:
    """Raises UserError if the name of a download of Google contradicts the case that its vocab.txt was taken for.

    A folder with tokenizer_config.json or tokenizer.json says itself whether text is lower-cased.
    """
    if any((directory / name).exists() for name in ("tokenizer_config.json", "tokenizer.json")):
        return
    name = directory.name
    named = True if LOWERED.match(name) else False if KEPT.match(name) else vocabulary.lower
    if named != vocabulary.lower:
        case = {True: "no piece of vocab.txt has a capital", False: "pieces of vocab.txt have capitals"}
        raise command.UserError(
            f"{directory} is named as a {'lower-cased' if named else 'cased'} model, but {case[vocabulary.lower]}: "
            'put a tokenizer_config.json there, {"do_lower_case": true} or {"do_lower_case": false}, or the right '
            "vocab.txt"
        )


def _prefixes(directory: epath.Path) -> list[str]:
    return sorted(path.name.removesuffix(".index") for path in storage.named(directory, "*ckpt*.index"))


def _choose(directory: epath.Path) -> epath.Path:
    """Returns the checkpoint's path without suffix: the one that the file `checkpoint` names, or the newest step."""
    prefixes = _prefixes(directory)
    if len(prefixes) > 1 and (directory / "checkpoint").exists():
        newest = re.search(r'^model_checkpoint_path: "(.*)"', (directory / "checkpoint").read_text(), re.MULTILINE)
        name = newest[1].replace("\\", "/").rpartition("/")[2] if newest else ""
        if name in prefixes:
            return directory / name
    return directory / max(prefixes, key=_step)


def _step(prefix: str) -> int:
    number = re.search(r"-(\d+)$", prefix)
    return int(number[1]) if number else -1


def _is_optimizers(name: str, names: list[str]) -> bool:
    """Returns whether a variable is a counter, or belongs to another variable, as NAME/adam_m does to NAME."""
    parts = name.split("/")
    return bool(COUNTERS.fullmatch(name)) or any("/".join(parts[:n]) in names for n in range(1, len(parts)))


def _hf_name(name: str) -> str:
    if name in RENAMED:
        return RENAMED[name]
    *parents, leaf = [re.sub(r"^layer_(\d+)$", r"layer.\1", part) for part in name.split("/")]
    leaf = f"{leaf}.weight" if leaf in TABLES else LEAVES.get(leaf, leaf)
    return ".".join([*parents, leaf])


def _oriented(name: str, array: Any) -> np.ndarray:
    """Returns a kernel [inputs, outputs] as PyTorch's weight [outputs, inputs], and other arrays as they are."""
    array = np.asarray(array)
    return array.T if name.endswith("/kernel") and array.ndim == 2 else array
