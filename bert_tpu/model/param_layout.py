"""How a Bert's parameters lie in a training state: each layer's leaf in one stack, the vocabulary filled up.

One array for a leaf of all layers, because a TPU takes two thousand cycles for the smallest operation, and an update
has several a leaf. Rows of the vocabulary up to a multiple of ROWS, so that the table divides over devices into whole
tiles: the added rows are zero and their bias is FILL, so that they have no probability, no gradient and no update.
"""

import jax
import jax.numpy as jnp
import numpy as np

from bert_tpu.core import command
from bert_tpu.model import transformer

ROWS = 256  # 8 rows, a float32 tile, for each of 32 devices
FILL = -1e9  # exp(it - anything) is exactly 0


def shapes(section):
    """The parameter tree of a `model` section, with shapes for arrays."""
    return jax.eval_shape(lambda: transformer.init(transformer.Bert(**section), jax.random.key(0)))


def padded_size(vocab_size):
    """`vocab_size`, filled up."""
    return -(-vocab_size // ROWS) * ROWS


def pack(params):
    """The tree of `Bert.init`, with "layers" instead of "layer_0" ..., each leaf of it [number of layers, ...].

    It may lack heads and have others.
    """
    layers = [params[f"layer_{i}"] for i in range(sum(key.startswith("layer_") for key in params))]
    packed = {key: tree for key, tree in params.items() if not key.startswith("layer_")}
    packed["layers"] = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    word_VD = packed["embeddings"]["word"]
    more = padded_size(len(word_VD)) - len(word_VD)
    packed["embeddings"] = packed["embeddings"] | {"word": jnp.pad(word_VD, ((0, more), (0, 0)))}
    if "mlm" in packed:
        packed["mlm"] = packed["mlm"] | {"bias": jnp.pad(packed["mlm"]["bias"], (0, more), constant_values=FILL)}
    return packed


def split_layers(packed):
    """The layers under their own names again, as `Bert.apply` takes them; a stack may be a tuple of arrays."""
    params = {key: tree for key, tree in packed.items() if key != "layers"}
    leaves, tree = jax.tree.flatten(packed["layers"], is_leaf=lambda x: isinstance(x, tuple))
    for i in range(len(leaves[0])):
        params[f"layer_{i}"] = tree.unflatten(leaf[i] for leaf in leaves)
    return params


def trim(packed, vocab_size):
    """What was packed, parameters or a gradient, without the rows that fill up."""
    params = split_layers(packed)
    params["embeddings"] = params["embeddings"] | {"word": params["embeddings"]["word"][:vocab_size]}
    if "mlm" in params:
        params["mlm"] = params["mlm"] | {"bias": params["mlm"]["bias"][:vocab_size]}
    return params


def check(packed, vocab_size):
    """Raises UserError if parameters have another number of pieces."""
    real = int(np.sum(~(np.asarray(packed["mlm"]["bias"]) <= FILL / 2)))  # so that a NaN is one
    if real != vocab_size:
        raise command.UserError(
            f"the parameters have {real:,} pieces and the model {vocab_size:,}: give --config.model.vocab_size={real}"
        )


def unpack(packed, vocab_size):
    """The parameters that were packed; UserError if they have another number of pieces."""
    check(packed, vocab_size)
    return trim(packed, vocab_size)
