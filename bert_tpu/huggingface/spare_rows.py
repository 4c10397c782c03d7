"""Rows of a word table that no piece of the vocabulary has: 30,528 rows for 30,522 pieces, as padded models have.

A model here has a row for each piece and no other: nothing feeds or predicts a spare row. Where a model is only taken
from one format to another, the rows are kept, so that all its tensors come back bit for bit.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from etils import epath
import numpy as np
import safetensors
import safetensors.numpy

from bert_tpu.core import command

FILE = "spare_rows.safetensors"


class SpareRows(NamedTuple):
    """The last rows of a word table, and their biases in the MLM head."""

    word_RD: np.ndarray
    bias_R: np.ndarray  # zeros in a model without an MLM head, as a new head has


def split(params: dict[str, Any], pieces: int) -> tuple[dict[str, Any], SpareRows | None]:
    """Returns (params with the first `pieces` rows, the other rows or None). `params` may lack the MLM head."""
    word_VD = params["embeddings"]["word"]
    if len(word_VD) == pieces:
        return params, None
    bias_V = params["mlm"]["bias"] if "mlm" in params else np.zeros(len(word_VD), np.float32)
    kept = params | {"embeddings": params["embeddings"] | {"word": word_VD[:pieces]}}
    if "mlm" in params:
        kept |= {"mlm": params["mlm"] | {"bias": bias_V[:pieces]}}
    return kept, SpareRows(word_VD[pieces:], bias_V[pieces:])


def join(
    params: dict[str, Any], section: Mapping[str, Any], spare: SpareRows | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns (params, section) with the spare rows at the end: the inverse of `split`. `params` has an MLM head."""
    if spare is None:
        return params, dict(section)
    word_VD = np.concatenate([params["embeddings"]["word"], spare.word_RD])
    bias_V = np.concatenate([params["mlm"]["bias"], spare.bias_R])
    whole = params | {
        "embeddings": params["embeddings"] | {"word": word_VD},
        "mlm": params["mlm"] | {"bias": bias_V},
    }
    return whole, dict(section) | {"vocab_size": len(word_VD)}


def write(folder: epath.PathLike, spare: SpareRows | None) -> None:
    """Writes the rows to FILE in `folder`, if there are any."""
    if spare is not None:
        arrays = {"word": np.ascontiguousarray(spare.word_RD), "bias": np.ascontiguousarray(spare.bias_R)}
        (epath.Path(folder) / FILE).write_bytes(safetensors.numpy.save(arrays))


def read(folder: epath.PathLike) -> SpareRows | None:
    """Returns the rows in FILE of `folder`, or None if it has none. Raises UserError if the file is damaged."""
    path = epath.Path(folder) / FILE
    if not path.exists():
        return None
    try:
        arrays = safetensors.numpy.load(path.read_bytes())
        return SpareRows(arrays["word"], arrays["bias"])
    except (safetensors.SafetensorError, KeyError) as error:
        raise command.UserError(f"{path} is damaged ({error}): import the model again") from None
