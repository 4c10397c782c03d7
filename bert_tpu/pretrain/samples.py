"""A few rows of the evaluation split, and the model's guesses at their masked places: samples.jsonl of a run.

Letters: B rows, of all hosts  L tokens  M displayed masked places of a row  K pieces a place
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

import jax
from jax.sharding import Mesh
import numpy as np

from bert_tpu.data import batch_spec
from bert_tpu.distributed import mesh as meshes
from bert_tpu.model import param_layout, transformer
from bert_tpu.tokenizer import vocab
from bert_tpu.training import jobs, train_step

Program = Callable[[jobs.Params, jobs.Batch], tuple[jax.Array, jax.Array]]

ROWS, PLACES, TOP = 6, 3, 3
CANDIDATES = 16  # first rows of a batch; host 0 has them with any number of hosts, so that the choice stays the same
WINDOW = 24  # displayed pieces of a row, as many as a person reads at a glance
INPUTS = ("input_ids", "token_type_ids", "attention_mask", "example_starts")


class Chosen(NamedTuple):
    """The rows that one host has chosen."""

    batch: dict[str, np.ndarray]  # its rows of a batch of `shapes`
    texts: list[str]  # of the first rows
    truths: list[list[str]]  # the masked pieces of each text


class Window(NamedTuple):
    """The part of a row that is displayed: its tokens low .. high - 1."""

    low: int
    high: int
    places: list[int]  # of [MASK]
    truths: list[str]  # the pieces that they hide

    def worth(self) -> tuple[int, int]:
        """The window's length, then its number of masks. A masked piece that is not a word costs half a WINDOW.

        A guess at a full stop, say, shows little of a model.
        """
        not_words = sum(not piece.removeprefix("##").isalpha() for piece in self.truths)
        return self.high - self.low - not_words * WINDOW // 2, len(self.places)


def shapes(spec: batch_spec.BatchSpec, devices: int, hosts: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a batch of the shortest length in `spec`, with ROWS rows or more on each host.

    devices: JAX devices of all hosts; the number of rows is a multiple of it
    hosts: number of hosts
    """
    of_batch = spec.shapes(spec.used_lens()[0])
    B = -(-ROWS * hosts // devices) * devices
    inputs = {name: (B, *of_batch[name][1:]) for name in INPUTS if name in of_batch}
    return inputs | {"masked_positions": (B, PLACES)}


def compile_program(
    job: jobs.Job, bert: transformer.Bert, batch_shapes: dict[str, tuple[int, ...]], mesh: Mesh
) -> Program:
    """Compiled function (params, batch of `batch_shapes`) -> (probabilities, pieces), [B, M, K], likeliest first."""

    def outputs(params: jobs.Params, batch: jobs.Batch) -> tuple[jax.Array, jax.Array]:
        def guesses(bert: transformer.Bert) -> tuple[jax.Array, jax.Array]:
            encoded = bert.encode(
                batch["input_ids"], batch["token_type_ids"], batch["attention_mask"], None, batch.get("example_starts")
            )
            h_BMD = jax.numpy.take_along_axis(encoded.tokens_BLD, batch["masked_positions"][..., None], axis=1)
            return jax.lax.top_k(jax.nn.softmax(bert.mlm(h_BMD, encoded.word_VD), axis=-1), TOP)

        whole = bert.clone(vocab_size=param_layout.padded_size(bert.vocab_size))
        likeliest = whole.apply({"params": param_layout.split_layers(params)}, method=guesses)
        return cast(tuple[jax.Array, jax.Array], likeliest)

    params = job.state_shapes.params
    return train_step.compile_function(train_step.jit_outputs(job, mesh, outputs), params, batch_shapes)


def choose_rows(batch: jobs.Batch, pieces: Sequence[str], special: vocab.Ids, rows: int) -> Chosen:
    """Chooses the ROWS rows with the best windows among the first CANDIDATES; repeats them to fill `rows`.

    batch: rows of this host
    pieces: of the vocabulary, by id
    special: ids of the special pieces
    rows: to return
    """
    candidates = range(min(CANDIDATES, len(batch["input_ids"])))
    windows = {row: _windows(batch, row, pieces, special) for row in candidates}
    best = {row: max(choices, key=Window.worth) for row, choices in windows.items() if choices}
    numbers = sorted(sorted(best, key=lambda row: best[row].worth(), reverse=True)[:ROWS])
    filled = np.resize(numbers or [0], rows)
    filled_batch = {name: np.ascontiguousarray(batch[name][filled]) for name in INPUTS if name in batch}
    filled_batch["masked_positions"] = np.zeros((rows, PLACES), np.int32)
    for slot, row in enumerate(filled if numbers else ()):
        filled_batch["masked_positions"][slot, : len(best[row].places)] = best[row].places
    texts = [_text(batch["input_ids"][row], best[row], pieces, special) for row in numbers]
    return Chosen(filled_batch, texts, [best[row].truths for row in numbers])


def predict(
    program: Program, mesh: Mesh, params: jobs.Params, chosen: Chosen, pieces: Sequence[str]
) -> list[dict[str, Any]]:
    """Guesses with `params`: for each text {"text", "places": [{"truth", "top": [[piece, probability], ...]}]}.

    All hosts call it, each with its own rows. Each gets the guesses of the first host's rows.
    """
    p_BMK, ids_BMK = jax.device_get(program(params, meshes.put_batch(chosen.batch, mesh)))
    return [
        {"text": text, "places": [
            {"truth": truth, "top": [[pieces[i], float(f"{p:.4g}")] for i, p in zip(ids, ps, strict=True)]}
            for truth, ids, ps in zip(truths, ids_MK, p_MK, strict=False)
        ]}
        for text, truths, ids_MK, p_MK in zip(chosen.texts, chosen.truths, ids_BMK, p_BMK, strict=False)
    ]  # fmt: skip


def _windows(batch: jobs.Batch, row: int, pieces: Sequence[str], special: vocab.Ids) -> list[Window]:
    """The longest part around each group of 1 to PLACES neighbouring masks that begins and ends with a word."""
    ids, windows = batch["input_ids"][row].tolist(), []
    places_and_ids = zip(batch["masked_positions"][row].tolist(), batch["masked_ids"][row].tolist(), strict=True)
    truths = {place: pieces[true] for place, true in places_and_ids if true and ids[place] == special.mask}
    masks = list(truths)
    # A mask of another group is an end, too, so that a text has no mask without a guess.
    ends = [place for place, piece in enumerate(ids) if piece in (special.pad, special.cls, special.sep)]
    for first, last in ((first, first + more) for more in range(PLACES) for first in range(len(masks) - more)):
        places = masks[first : last + 1]
        others = [*ends, *masks[:first], *masks[last + 1 :]]
        left = max((end for end in others if end < places[0]), default=-1)
        right = min((end for end in others if end > places[0]), default=len(ids))
        size = min(WINDOW, right - left - 1)
        if places[-1] < right and places[-1] - places[0] < size:
            low = min(max((places[0] + places[-1] + 1 - size) // 2, left + 1), right - size)
            low, high = _of_whole_words(low, low + size, places, ids, pieces)
            windows.append(Window(low, high, places, [truths[place] for place in places]))
    return windows


def _of_whole_words(low: int, high: int, places: list[int], ids: list[int], pieces: Sequence[str]) -> tuple[int, int]:
    """Shrinks a window (low, high) until no word is cut at its ends. Keeps all `places` inside."""
    while low < places[0] and pieces[ids[low]].startswith("##"):
        low += 1
    while high - 1 > places[-1] and high < len(ids) and pieces[ids[high]].startswith("##"):
        high -= 1
    return low, high


def _text(ids: np.ndarray, window: Window, pieces: Sequence[str], special: vocab.Ids) -> str:
    """A window as text, with "..." where the row's text goes on."""
    words: list[str] = []
    for piece in (pieces[i] for i in ids[window.low : window.high]):
        if words and piece.startswith("##"):
            words[-1] += piece[2:]
        else:
            words.append(piece)
    edge = {special.pad, special.cls, special.sep}
    before = ids[window.low - 1] in edge if window.low else True
    after = ids[window.high] in edge if window.high < len(ids) else True
    return " ".join([*([] if before else ["..."]), *words, *([] if after else ["..."])])
