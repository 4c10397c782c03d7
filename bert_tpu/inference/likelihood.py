"""Log-probabilities that a model gives to pieces at masked places, of many short rows.

Rows share longer ones, as fine-tuning's examples do, so that little is computed for padding and one program serves all;
the last layer is computed at the masked places alone, the MLM head where a piece is asked for.

Letters: B rows of a batch  L tokens  E masked places of a row  N all of a batch  D width  V vocabulary
"""

from collections.abc import Sequence
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bert_tpu.core import command, progress
from bert_tpu.data import packing, task_batches, token_rows
from bert_tpu.inference import fill_mask

SHORTEST = 64  # tokens of a shared row, or 128, 256, ... where a question is longer
TOKENS = 1024  # of a batch: a CPU's cache holds what a layer makes of them; of 2,048 each takes a quarter longer
SLOTS = 5  # questions in 64 tokens, at most: the benchmarks' sentences have about 20
ASKED = 56  # questions of a batch: of its 80 slots some more than are used on average


class Question(NamedTuple):
    """How likely is `piece` at `place`, where `ids` has a [MASK]?"""

    ids: Sequence[int]  # with [CLS] and [SEP]
    place: int
    piece: int


def row(filler: fill_mask.Model, text: str) -> list[int]:
    """The ids of a text with [CLS] and [SEP]; "[MASK]" is one. Raises UserError where the model takes fewer."""
    ids = [filler.ids.cls, *filler.tokenizer.encode(text, add_special_tokens=False).ids, filler.ids.sep]
    if len(ids) > (most := filler.bert.max_positions):
        raise command.UserError(
            f"{text[:60]!r} has {len(ids)} tokens with [CLS] and [SEP] and the model takes {most}: leave its task out"
        )
    return ids


def masked(filler: fill_mask.Model, ids: Sequence[int], place: int) -> Question:
    """The question for what `ids` has at `place`."""
    return Question([*ids[:place], filler.ids.mask, *ids[place + 1 :]], place, ids[place])


def log_probs(filler: fill_mask.Model, questions: Sequence[Question], name: str = "scoring") -> np.ndarray:
    """The answer to each question in nats, float32 [questions]; a bar of that name shows how far it is."""
    found = np.zeros(len(questions), np.float32)
    if not questions:
        return found
    lengths = np.array([len(question.ids) for question in questions])
    ids = np.concatenate([question.ids for question in questions]).astype(np.uint16)
    places = np.array([[question.place] for question in questions], np.int32)
    pieces = np.array([question.piece for question in questions], np.int32)
    rows = token_rows.Rows(ids, np.zeros(len(ids), np.uint8), np.cumsum([0, *lengths]), places)
    seq_len = SHORTEST
    while seq_len < lengths.max():
        seq_len *= 2
    with progress.bar(len(questions), name, " rows") as shown, jax.default_matmul_precision("highest"):
        for numbers_BE in _batches(lengths, seq_len):
            slots = np.flatnonzero(numbers_BE != task_batches.NOBODY)
            numbers = numbers_BE.reshape(-1)[slots]
            empty = ASKED - len(slots)
            asked = np.pad(slots, (0, empty)), np.pad(pieces[numbers], (0, empty))
            batch = task_batches.lay(rows, numbers_BE, seq_len)
            said_N = _log_probs(filler.bert, filler.params, batch, *asked)
            found[numbers] = np.asarray(said_N)[: len(slots)]
            shown.update(len(slots))
    return found


def _batches(lengths, seq_len):
    """The questions that each row of each batch holds, [B, E], NOBODY where there is none; ASKED or fewer a batch."""
    most = max(TOKENS // seq_len, 1)
    held = packing.pack(lengths, seq_len, min(SLOTS * seq_len // SHORTEST, ASKED))
    # Packing gives rows of few long questions and rows of many short ones: mixed, batches come to hold about as many.
    held = held[np.random.default_rng(0).permutation(len(held))]
    counts = np.sum(held != task_batches.NOBODY, axis=1)
    first = 0
    while first < len(held):
        fitting = np.searchsorted(np.cumsum(counts[first : first + most]), ASKED, side="right")
        batch = held[first : first + fitting]
        yield np.pad(batch, ((0, most - len(batch)), (0, 0)), constant_values=task_batches.NOBODY)
        first += fitting


@functools.partial(jax.jit, static_argnums=0)
def _log_probs(bert, params, batch, slots_N, pieces_N):
    """Of pieces_N at the masked places `slots_N`, which count a batch's slots row by row."""
    inputs = (batch[name] for name in ("input_ids", "token_type_ids", "attention_mask"))

    def logits(bert):
        encoded = bert.encode(*inputs, None, batch["example_starts"], batch["labels"][..., 0])
        return bert.mlm(encoded.tokens_BLD.reshape(-1, bert.hidden_size)[slots_N], encoded.word_VD)

    logits_NV = bert.apply({"params": params}, method=logits)
    asked_N = jnp.take_along_axis(logits_NV, pieces_N[:, None], axis=1)[:, 0]
    return asked_N - jax.nn.logsumexp(logits_NV, axis=-1)
