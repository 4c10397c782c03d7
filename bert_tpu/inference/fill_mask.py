"""Predicts the pieces in place of [MASK] in JAX, with the results of transformers' fill-mask pipeline."""

import functools
from pathlib import Path
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import tokenizers

from bert_tpu.core import command
from bert_tpu.huggingface import hf
from bert_tpu.model import transformer
from bert_tpu.tokenizer import vocab

# Few programs are compiled, because sizes are rounded up to a few values:
SHORTEST = 32  # rows are padded to 32, 64, 128, ... tokens
FEWEST = 4  # and the masks in a row to 4, 8, 16, ...


class Model(NamedTuple):
    """A loaded model, ready to predict."""

    bert: transformer.Bert
    params: dict[str, Any]
    tokenizer: tokenizers.Tokenizer
    ids: vocab.Ids


class Guess(NamedTuple):
    """A piece for one [MASK], its probability, and the text with the piece in it."""

    score: float
    piece: str
    sequence: str


def load(directory: str | Path) -> Model:
    """Loads the model of a Hugging Face directory, float32 on the first device; UserError without an MLM head."""
    return ready(hf.load(directory), directory)


def ready(pretrained: hf.Pretrained, directory: str | Path) -> Model:
    """Puts the model that was read from `directory` on the first device, in float32; UserError without an MLM head."""
    if "mlm" in pretrained.absent:
        raise command.UserError(f"{directory} has an encoder without an MLM head: it cannot fill a mask")
    tokenizer = vocab.marked_tokenizer(pretrained.vocab)
    params = jax.device_put(hf.complete(pretrained))
    return Model(transformer.Bert(**pretrained.model), params, tokenizer, vocab.ids(pretrained.vocab))


def check_text(text: str) -> None:
    """Raises UserError for a text with bytes that are not UTF-8, which Python reads as lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise command.UserError(
            f"the text is not UTF-8 from character {error.start + 1} on: write it in UTF-8"
        ) from None


def encode(filler: Model, text: str) -> list[int]:
    """Returns the ids of `text` with [CLS] and [SEP]. "[MASK]" in it is the model's mask, even of another name.

    Raises UserError for a text that is not UTF-8.
    """
    check_text(text)
    text = text.replace("[MASK]", filler.tokenizer.id_to_token(filler.ids.mask) or "[MASK]")
    return [filler.ids.cls, *filler.tokenizer.encode(text, add_special_tokens=False).ids, filler.ids.sep]


def predict(filler: Model, text: str, top_k: int = 5) -> list[list[Guess]]:
    """Returns the `top_k` likeliest pieces for each [MASK] of `text`, likeliest first. Each mask is filled alone.

    Raises UserError for a text without [MASK], or with more tokens than the model has positions.
    """
    if not 0 < top_k <= filler.bert.vocab_size:
        raise command.UserError(f"top_k {top_k}: give 1 to {filler.bert.vocab_size}, the number of pieces")
    row = encode(filler, text)
    places = [place for place, piece in enumerate(row) if piece == filler.ids.mask]
    if not places:
        raise command.UserError(f"no [MASK] in {text!r}: write one, in capitals, where a word is wanted")
    if len(row) > (longest := filler.bert.max_positions):
        raise command.UserError(
            f"the text has {len(row)} tokens with [CLS] and [SEP], the model takes {longest}: shorten it"
        )
    guesses = []
    for place, scores_V in zip(places, _scores(filler, row, places), strict=True):
        best = np.argsort(-scores_V, kind="stable")[:top_k].tolist()
        alone = len(places) == 1
        guesses.append([_guess(filler, row, place, piece, scores_V[piece], alone) for piece in best])
    return guesses


def _scores(filler: Model, row: list[int], places: list[int]) -> np.ndarray:
    """Returns the probabilities of all pieces at `places`, float32 [places, V]."""
    length = min(_padded(len(row), SHORTEST), filler.bert.max_positions)
    input_ids_BL = np.full((1, length), filler.ids.pad, np.int32)
    input_ids_BL[0, : len(row)] = row
    masked_positions_BM = np.zeros((1, _padded(len(places), FEWEST)), np.int32)
    masked_positions_BM[0, : len(places)] = places
    mask_BL = (np.arange(length) < len(row))[None]
    with jax.default_matmul_precision("highest"):  # a TPU's default is bfloat16
        p_BMV = _probabilities(filler.bert, filler.params, input_ids_BL, mask_BL, masked_positions_BM)
    return np.asarray(p_BMV)[0, : len(places)]


@functools.partial(jax.jit, static_argnums=0)
def _probabilities(
    bert: transformer.Bert,
    params: dict[str, Any],
    input_ids_BL: jax.Array,
    mask_BL: jax.Array,
    masked_positions_BM: jax.Array,
) -> jax.Array:
    types_BL = jnp.zeros_like(input_ids_BL)
    logits = cast(
        transformer.Logits, bert.apply({"params": params}, input_ids_BL, types_BL, mask_BL, masked_positions_BM)
    )
    return jax.nn.softmax(logits.mlm_BMV, axis=-1)


def _guess(filler: Model, row: list[int], place: int, piece: int, score: np.float32, alone: bool) -> Guess:
    # transformers leaves out [CLS] and [SEP], unless another [MASK] would vanish with them. It also leaves out special
    # tokens that a model has of its own, which are words of the text, and stay here.
    left_out = set(filler.ids) if alone else {filler.ids.pad}
    ids = [i for i in [*row[:place], piece, *row[place + 1 :]] if i not in left_out]
    sequence = filler.tokenizer.decode(ids, skip_special_tokens=False)
    return Guess(float(score), filler.tokenizer.decode([piece], skip_special_tokens=False), sequence)


def _padded(number: int, smallest: int) -> int:
    """Returns the first of `smallest`, 2 x `smallest`, 4 x `smallest`, ... that is not below `number`."""
    while smallest < number:
        smallest *= 2
    return smallest
