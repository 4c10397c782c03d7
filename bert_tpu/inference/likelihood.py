"""Log-probabilities of pieces at masked places, for many short rows.

Short rows share longer ones, as fine-tuning's examples do. Little is then computed for padding, and one program serves
all rows. The last layer is computed at the masked places alone, and the MLM head only where a piece is asked for.

Letters: B rows of a batch  L tokens  E masked places of a row  N all of a batch  D width  V vocabulary
"""

from collections.abc import Iterator, Sequence
import functools
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from bert_tpu.core import command, progress
from bert_tpu.data import packing, task_batches, token_rows
from bert_tpu.inference import fill_mask
from bert_tpu.model import transformer

SHORTEST = 64  # tokens of a shared row; 128, 256, ... if a question is longer
TOKENS = 1024  # of a batch: a layer's arrays then fit a CPU's cache; at 2,048 each token takes a quarter longer
SLOTS = 5  # questions in 64 tokens, at most: the benchmarks' sentences have about 20
ASKED = 56  # questions of a batch: a little more than the average of its 80 slots that are used


class Question(NamedTuple):
    """A row with a [MASK] at `place`, and the piece whose probability there is asked for."""

    ids: Sequence[int]  # with [CLS] and [SEP]
    place: int
    piece: int


def row(filler: fill_mask.Model, text: str) -> list[int]:
    """Returns the ids of a text with [CLS] and [SEP]; "[MASK]" in it is one id.

    Raises UserError if the text has more tokens than the model has positions.
    """
    ids = fill_mask.encode(filler, text)
    if len(ids) > (longest := filler.bert.max_positions):
        raise command.UserError(
            f"{text[:60]!r} has {len(ids)} tokens with [CLS] and [SEP] and the model takes {longest}: leave its "
            "task out"
        )
    return ids


def masked(filler: fill_mask.Model, ids: Sequence[int], place: int) -> Question:
    """Returns the question that masks `place` and asks for the piece that `ids` has there."""
    return Question([*ids[:place], filler.ids.mask, *ids[place + 1 :]], place, ids[place])


def log_probs(filler: fill_mask.Model, questions: Sequence[Question], name: str = "scoring") -> np.ndarray:
    """Returns the log-probability that each question asks for, in nats, float32 [questions].

    name: the title of the progress bar.
    """
    answers = np.zeros(len(questions), np.float32)
    if not questions:
        return answers
    lengths = np.array([len(question.ids) for question in questions])
    ids = np.concatenate([question.ids for question in questions]).astype(np.int32)
    places = np.array([[question.place] for question in questions], np.int32)
    pieces = np.array([question.piece for question in questions], np.int32)
    rows = token_rows.Rows(ids, np.zeros(len(ids), np.uint8), np.cumsum([0, *lengths]), places)
    seq_len = SHORTEST
    while seq_len < lengths.max():
        seq_len *= 2
    with progress.bar(len(questions), name, " rows") as bar, jax.default_matmul_precision("highest"):
        for numbers_BE in _batches(lengths, seq_len):
            slots = np.flatnonzero(numbers_BE != task_batches.EMPTY)
            numbers = numbers_BE.reshape(-1)[slots]
            empty = ASKED - len(slots)
            asked = np.pad(slots, (0, empty)), np.pad(pieces[numbers], (0, empty))
            batch = task_batches.lay_out(rows, numbers_BE, seq_len)
            answers_N = _log_probs(filler.bert, filler.params, batch, *asked)
            answers[numbers] = np.asarray(answers_N)[: len(slots)]
            bar.update(len(slots))
    return answers


def _batches(lengths: np.ndarray, seq_len: int) -> Iterator[np.ndarray]:
    """Yields the numbers of the questions in each row of a batch, [B, E], EMPTY in an empty slot.

    A batch has at most ASKED questions.
    """
    batch_rows = max(TOKENS // seq_len, 1)
    packed = packing.pack(lengths, seq_len, min(SLOTS * seq_len // SHORTEST, ASKED))
    # Packing gives rows of few long questions and rows of many short ones. Mixed, batches have about equally many.
    packed = packed[np.random.default_rng(0).permutation(len(packed))]
    counts = np.sum(packed != task_batches.EMPTY, axis=1)
    first = 0
    while first < len(packed):
        fitting = int(np.searchsorted(np.cumsum(counts[first : first + batch_rows]), ASKED, side="right"))
        batch = packed[first : first + fitting]
        yield np.pad(batch, ((0, batch_rows - len(batch)), (0, 0)), constant_values=task_batches.EMPTY)
        first += fitting


@functools.partial(jax.jit, static_argnums=0)
def _log_probs(
    bert: transformer.Bert,
    params: dict[str, Any],
    batch: dict[str, jax.Array],
    slots_N: jax.Array,
    pieces_N: jax.Array,
) -> jax.Array:
    """Log-probabilities of `pieces_N` at the masked places `slots_N`, which number a batch's slots row by row."""
    ids, types, mask = (batch[name] for name in ("input_ids", "token_type_ids", "attention_mask"))

    def logits(bert: transformer.Bert) -> jax.Array:
        encoded = bert.encode(ids, types, mask, None, batch["example_starts"], batch["labels"][..., 0])
        return bert.mlm(encoded.tokens_BLD.reshape(-1, bert.hidden_size)[slots_N], encoded.word_VD)

    logits_NV = cast(jax.Array, bert.apply({"params": params}, method=logits))
    asked_N = jnp.take_along_axis(logits_NV, pieces_N[:, None], axis=1)[:, 0]
    return asked_N - jax.nn.logsumexp(logits_NV, axis=-1)
