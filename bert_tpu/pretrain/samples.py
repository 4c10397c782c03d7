"""A few held-out rows, and what the model would put in their masked places: samples.jsonl of a run.

Letters: B rows, of all hosts  L tokens  M masked places that are shown of a row  K pieces a place
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from bert_tpu.distributed import mesh
from bert_tpu.model import param_layout
from bert_tpu.training import train_step

ROWS, PLACES, TOP = 6, 3, 3
CANDIDATES = 16  # rows, which the first host has of any batch of so many a host: so they stay the same on other hosts
WINDOW = 24  # pieces of a row that are shown: what a person reads at a glance
INPUTS = ("input_ids", "token_type_ids", "attention_mask", "example_starts")


class Chosen(NamedTuple):
    """One host's rows of a batch of `shapes`, and the texts and true pieces of the first few."""

    batch: dict[str, np.ndarray]
    texts: list[str]
    truths: list[list[str]]


class Window(NamedTuple):
    """What is shown of a row: its tokens low .. high - 1, of which `places` are [MASK] and hide the pieces `truths`."""

    low: int
    high: int
    places: list[int]
    truths: list[str]

    def worth(self) -> tuple[int, int]:
        """Its length; a hidden dot tells little of a model, so that what is no word counts for half a window."""
        others = sum(not piece.removeprefix("##").isalpha() for piece in self.truths)
        return self.high - self.low - others * WINDOW // 2, len(self.places)


def shapes(spec, devices, hosts) -> dict[str, tuple[int, ...]]:
    """Of a batch that has ROWS rows on each host, of the shortest rows of `spec`, dealt over devices."""
    of_batch = spec.shapes(spec.used_lens()[0])
    B = -(-ROWS * hosts // devices) * devices
    inputs = {name: (B, *of_batch[name][1:]) for name in INPUTS if name in of_batch}
    return inputs | {"masked_positions": (B, PLACES)}


def compile_program(job, bert, batch_shapes, on):
    """Compiled function (params, batch of `batch_shapes`) -> (probabilities, pieces), [B, M, K], likeliest first."""

    def outputs(params, batch):
        def guesses(bert):
            given = (batch[name] for name in INPUTS[:3])
            encoded = bert.encode(*given, None, batch.get("example_starts"))
            h_BMD = jax.numpy.take_along_axis(encoded.tokens_BLD, batch["masked_positions"][..., None], axis=1)
            return jax.lax.top_k(jax.nn.softmax(bert.mlm(h_BMD, encoded.word_VD), axis=-1), TOP)

        whole = bert.clone(vocab_size=param_layout.padded_size(bert.vocab_size))
        return whole.apply({"params": param_layout.split_layers(params)}, method=guesses)

    params = job.state_shapes.params
    return train_step.compile_function(train_step.jit_outputs(job, on, outputs), params, batch_shapes)


def choose_rows(batch, pieces, special, rows) -> Chosen:
    """Of the first rows of `batch`, one host's, those with the windows of most worth; repeated until they are `rows`.

    pieces: by id. special: vocab.Ids.
    """
    candidates = range(min(CANDIDATES, len(batch["input_ids"])))
    best = {row: max(of, key=Window.worth) for row in candidates if (of := _windows(batch, row, pieces, special))}
    numbers = sorted(sorted(best, key=lambda row: best[row].worth(), reverse=True)[:ROWS])
    filled = np.resize(numbers or [0], rows)
    held = {name: np.ascontiguousarray(batch[name][filled]) for name in INPUTS if name in batch}
    held["masked_positions"] = np.zeros((rows, PLACES), np.int32)
    for slot, row in enumerate(filled if numbers else ()):
        held["masked_positions"][slot, : len(best[row].places)] = best[row].places
    texts = [_text(batch["input_ids"][row], best[row], pieces, special) for row in numbers]
    return Chosen(held, texts, [best[row].truths for row in numbers])


def predict(program, on, params, chosen, pieces) -> list[dict[str, Any]]:
    """What `params` say now: for each text {"text", "places": [{"truth", "top": [[piece, probability], ...]}]}.

    All hosts call it, each with its own rows; each gets what the first one's are.
    """
    p_BMK, ids_BMK = jax.device_get(program(params, mesh.put_batch(chosen.batch, on)))
    return [
        {"text": text, "places": [
            {"truth": truth, "top": [[pieces[i], float(f"{p:.4g}")] for i, p in zip(ids, ps, strict=True)]}
            for truth, ids, ps in zip(truths, ids_MK, p_MK, strict=False)
        ]}
        for text, truths, ids_MK, p_MK in zip(chosen.texts, chosen.truths, ids_BMK, p_BMK, strict=False)
    ]  # fmt: skip


def _windows(batch, row, pieces, special):
    """Around one to PLACES masks of a row, next to each other, the longest part that begins and ends with a word."""
    ids, found = batch["input_ids"][row].tolist(), []
    places_and_ids = zip(batch["masked_positions"][row].tolist(), batch["masked_ids"][row].tolist(), strict=True)
    truths = {place: pieces[true] for place, true in places_and_ids if true and ids[place] == special.mask}
    masks = list(truths)
    # A mask that is not shown is an end too, so that each one in a text is told of.
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
            found.append(Window(low, high, places, [truths[place] for place in places]))
    return found


def _of_whole_words(low, high, places, ids, pieces):
    """The part low .. high less what it has of words at its ends."""
    while low < places[0] and pieces[ids[low]].startswith("##"):
        low += 1
    while high - 1 > places[-1] and high < len(ids) and pieces[ids[high]].startswith("##"):
        high -= 1
    return low, high


def _text(ids, window, pieces, special):
    """A window as text, "..." where its row's goes on."""
    words = []
    for piece in (pieces[i] for i in ids[window.low : window.high]):
        if words and piece.startswith("##"):
            words[-1] += piece[2:]
        else:
            words.append(piece)
    edge = {special.pad, special.cls, special.sep}
    before = ids[window.low - 1] in edge if window.low else True
    after = ids[window.high] in edge if window.high < len(ids) else True
    return " ".join([*([] if before else ["..."]), *words, *([] if after else ["..."])])
