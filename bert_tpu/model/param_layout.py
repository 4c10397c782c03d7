"""How a Bert's parameters are arranged in a training state: layers stacked, the vocabulary padded.

Each leaf of all layers is one array, because a TPU takes two thousand cycles for the smallest operation, and an update
has several a leaf. The vocabulary has rows up to a multiple of ROWS, so that the table divides over devices into whole
tiles. The added rows are zero and their bias is cross_entropy.FILL, so that they have no probability, no gradient and
no update.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bert_tpu.core import command
from bert_tpu.model import cross_entropy, transformer

ROWS = 256  # 8 rows, a float32 tile, for each of 32 devices


def shapes(section: Mapping[str, Any]) -> transformer.Params:
    """Returns the parameter tree of a `model` section, with shapes instead of arrays."""
    return jax.eval_shape(lambda: transformer.init(transformer.Bert(**section), jax.random.key(0)))


def padded_size(vocab_size: int) -> int:
    """Returns the rows of a padded table of `vocab_size` pieces."""
    return -(-vocab_size // ROWS) * ROWS


def pack(params: transformer.Params) -> transformer.Params:
    """Returns the tree of transformer.init with "layers", each leaf [layers, ...], instead of "layer_0" ....

    `params` may lack heads and have others.
    """
    layers = [params[f"layer_{i}"] for i in range(sum(key.startswith("layer_") for key in params))]
    packed = {key: tree for key, tree in params.items() if not key.startswith("layer_")}
    packed["layers"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    word_VD = packed["embeddings"]["word"]
    more = padded_size(len(word_VD)) - len(word_VD)
    packed["embeddings"] = packed["embeddings"] | {"word": jnp.pad(word_VD, ((0, more), (0, 0)))}
    if "mlm" in packed:
        packed["mlm"] = packed["mlm"] | {
            "bias": jnp.pad(packed["mlm"]["bias"], (0, more), constant_values=cross_entropy.FILL)
        }
    return packed


def split_layers(packed: transformer.Params) -> transformer.Params:
    """Returns the layers under their own names, as Bert.apply takes them; a stack may be a tuple of arrays."""
    params = {key: tree for key, tree in packed.items() if key != "layers"}
    leaves, tree = jax.tree.flatten(packed["layers"], is_leaf=lambda x: isinstance(x, tuple))
    for i in range(len(leaves[0])):
        params[f"layer_{i}"] = jax.tree.unflatten(tree, [leaf[i] for leaf in leaves])
    return params


def trim(packed: transformer.Params, vocab_size: int) -> transformer.Params:
    """Returns packed parameters, or a gradient, as `pack` took them: layers split, without the padding rows."""
    params = split_layers(packed)
    params["embeddings"] = params["embeddings"] | {"word": params["embeddings"]["word"][:vocab_size]}
    if "mlm" in params:
        params["mlm"] = params["mlm"] | {"bias": params["mlm"]["bias"][:vocab_size]}
    return params


def check(packed: transformer.Params, vocab_size: int) -> None:
    """Raises UserError unless packed parameters have `vocab_size` pieces."""
    real = int(np.sum(~(np.asarray(packed["mlm"]["bias"]) <= cross_entropy.FILL / 2)))  # counts a NaN as a piece
    if real != vocab_size:
        raise command.UserError(
            f"the parameters have {real:,} pieces and the model {vocab_size:,}: set --config.model.vocab_size={real}"
        )


def unpack(packed: transformer.Params, vocab_size: int) -> transformer.Params:
    """Returns the parameters that were packed. Raises UserError unless they have `vocab_size` pieces."""
    check(packed, vocab_size)
    return trim(packed, vocab_size)
