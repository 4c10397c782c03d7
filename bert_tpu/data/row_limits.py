"""Compares the rows of a run with its prediction slots, its text's sentences, and the positions of its model."""

import numpy as np

from bert_tpu.core import command
from bert_tpu.data import batch_spec, chunks, packing

SPECIAL = 3  # tokens of a row that are not text: [CLS] and two [SEP]; a single segment leaves their places free, too
SAMPLE = 10_000  # documents, from all parts of the text, that tell how much of it is hidden
LEAST_HELDOUT = 256  # rows. A run warns if it has fewer and an evaluation repeats them
MOST_HIDDEN = 0.25  # share of the tokens; of English Wikipedia and novels rows of 128 hide 0.15, rows of 512 0.04


def slots_warning(spec: batch_spec.BatchSpec) -> str:
    """Returns a warning if a full row has fewer prediction slots than the mask rate asks for, else "".

    One slot fewer is the original's (76 of 76.8), and no reason to warn.
    """
    rate = max(spec.mask_rate, spec.final_mask_rate)
    wanted = [max(1, round(rate * n)) for n in spec.seq_lens]
    if all(m + 1 >= n for m, n in zip(spec.max_predictions, wanted, strict=True)):
        return ""
    return (
        f"a mask rate of {rate:g} wants {wanted} predictions in rows of {list(spec.seq_lens)} tokens, and "
        f"data.max_predictions allows {list(spec.max_predictions)}: the rest is not masked; give "
        f"--config.data.max_predictions={','.join(map(str, wanted))}"
    )


def pairs_warning(spec: batch_spec.BatchSpec) -> str:
    """Returns a warning if no step has pairs, so that the heads of pairs are never trained, else ""."""
    if spec.first_nsp_step < spec.num_steps:
        return ""
    return (
        f"data.nsp_share {spec.nsp_share:g} of {spec.num_steps:,} steps gives no step with pairs: the pooler and the "
        "NSP head are not trained, only decayed, and NSP accuracies say nothing"
    )


def hidden_share(text: chunks.Text, seq_len: int) -> float:
    """Returns the share of the tokens that an epoch of rows does not show.

    Sentences are added until a row is full, and the rest of the last one is cut off, as in the original.
    """
    documents = len(text.origins)  # a shard has them in the order of the input: source after source
    sample = np.arange(documents) if documents <= SAMPLE else np.arange(SAMPLE) * documents // SAMPLE
    found = chunks.cut(text, target=seq_len - SPECIAL, documents=sample)
    lengths = text.sentence_start[found.last] - text.sentence_start[found.first]
    return float(np.maximum(lengths - (seq_len - SPECIAL), 0).sum() / max(1, lengths.sum()))


def long_sentences_warnings(text: chunks.Text, seq_len: int) -> list[str]:
    """Returns a warning if an epoch of rows does not show more than MOST_HIDDEN of the tokens, else []."""
    if (share := hidden_share(text, seq_len)) <= MOST_HIDDEN:
        return []
    return [
        f"warning: rows of {seq_len} do not show {share:.0%} of the tokens in an epoch, and nearly the same ones in "
        f"each, because sentences have {_mean_sentence(text):.0f} tokens: give longer data.seq_lens, or, if the text's "
        "sentences are shorter, end each with a mark or a line end and prepare it again"
    ]


def _mean_sentence(text: chunks.Text) -> float:
    return float(text.sentence_start[-1]) / max(1, len(text.sentence_start) - 1)


def short_heldout_warning(rows: int, seq_len: int, taken: int) -> str:
    """Returns a warning if the held-out text is short and an evaluation repeats its rows, else "".

    rows: that the text makes
    taken: rows of an evaluation
    """
    if rows >= LEAST_HELDOUT or taken < 2 * rows:
        return ""
    return (
        f"the held-out text makes {rows:,} rows of {seq_len} tokens, and an evaluation takes {taken:,}: each comes "
        f"about {taken / max(rows, 1):.0f} times, with other masks; prepare the corpus with a larger --heldout"
    )


def notes(text: chunks.Text, spec: batch_spec.BatchSpec, examples_per_row: float, divisor: int) -> str:
    """Returns sentences about the rows that a run makes of its text; "" without any.

    examples_per_row: mean of the packed rows, 0 without any
    divisor: as in packing.note
    """
    lines = [packing.note(examples_per_row, spec, divisor)] if examples_per_row else []
    return "\n".join([*lines, *long_sentences_warnings(text, spec.used_lens()[0])])


def check_positions(spec: batch_spec.BatchSpec, positions: int) -> None:
    """Raises UserError, with lengths that fit, if rows are longer than a model of `positions` positions takes."""
    if (longest := spec.seq_lens[-1]) > positions:
        lens = [*(n for n in spec.seq_lens if n < positions), positions]
        slots = [max(1, round(n * spec.mask_rate)) for n in lens]
        raise command.UserError(
            f"config.model: max_positions {positions} is less than the rows' {longest} tokens: give "
            f"--config.data.seq_lens={','.join(map(str, lens))} --config.data.max_predictions="
            f"{','.join(map(str, slots))}, or a model with more positions"
        )
