"""Measures an ONNX model with onnxruntime on this CPU: time, losses on the evaluation split, a task's outputs."""

from collections.abc import Iterator
import statistics
import time

import numpy as np

from bert_tpu.core import progress
from bert_tpu.data import token_rows
from bert_tpu.export import onnx_graph

RUNS = 30  # of the timed row; their median counts
# Tokens of a call: the MLM head's logits for 1,024 tokens and 30,522 pieces are 125 MB.
CALL = 1024


def latencies(sessions: list[onnx_graph.Session], tokens: int) -> list[float]:
    """Milliseconds of one row of `tokens` tokens in each session: the median of RUNS, after one run to warm up.

    The sessions take turns, so that other work on the machine slows all of them.
    """
    ids = np.ones((1, tokens), np.int64)
    row = {"input_ids": ids, "attention_mask": ids, "token_type_ids": 0 * ids}
    times: list[list[float]] = [[] for _ in sessions]
    for run in range(RUNS + 1):
        for session, seconds in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(None, row)
            if run:
                seconds.append(time.perf_counter() - start)
    return [1000 * statistics.median(seconds) for seconds in times]


def pretraining_scores(
    session: onnx_graph.Session, batches: list[tuple[int, dict[str, np.ndarray]]], name: str
) -> dict[str, float]:
    """Returns MLM loss in nats, MLM accuracy and NSP accuracy for each length; a key is "mlm_loss 128".

    session: of a BertForPreTraining.
    batches: (sequence length, batch as corpus_batches.heldout yields it), one example a row.
    name: the title of the progress bar.
    """
    totals: dict[int, np.ndarray] = {}
    with progress.bar(sum(len(batch["input_ids"]) for _, batch in batches), name, " rows") as bar:
        for seq_len, batch in batches:
            total = totals.setdefault(seq_len, np.zeros(5))
            step = max(1, CALL // seq_len)
            for first in range(0, len(batch["input_ids"]), step):
                rows = {key: value[first : first + step] for key, value in batch.items()}
                total += _sums(session, rows)
                bar.update(len(rows["input_ids"]))
    scores: dict[str, float] = {}
    for seq_len, (loss, right, masked, next_right, examples) in sorted(totals.items()):
        scores |= {
            f"mlm_loss {seq_len}": loss / masked,
            f"mlm_accuracy {seq_len}": right / masked,
            f"nsp_accuracy {seq_len}": next_right / examples,
        }
    return scores


def _sums(session: onnx_graph.Session, rows: dict[str, np.ndarray]) -> np.ndarray:
    """Sums over rows: [MLM loss, right MLM answers, masked pieces, right NSP answers, NSP examples]."""
    inputs = {key: np.ascontiguousarray(rows[key], np.int64) for key in onnx_graph.INPUTS}
    mlm_BLV, nsp_BC = session.run(["logits", "seq_relationship_logits"], inputs)
    places_BM, ids_BM = rows["masked_positions"], rows["masked_ids"]
    is_masked = ids_BM > 0
    row_of = np.broadcast_to(np.arange(len(ids_BM))[:, None], ids_BM.shape)
    logits_NV, ids_N = mlm_BLV[row_of[is_masked], places_BM[is_masked]].astype(np.float64), ids_BM[is_masked]
    highest_N = logits_NV.max(axis=-1)
    log_sum_N = highest_N + np.log(np.exp(logits_NV - highest_N[:, None]).sum(axis=-1))
    loss_N = log_sum_N - logits_NV[np.arange(len(ids_N)), ids_N]
    is_next_right = nsp_BC.argmax(axis=-1) == rows["next_sentence_label"]
    is_right_N = logits_NV.argmax(axis=-1) == ids_N
    return np.array([loss_N.sum(), is_right_N.sum(), len(ids_N), is_next_right.sum(), len(nsp_BC)])


def task_outputs(session: onnx_graph.Session, rows: token_rows.Rows, head: str, name: str) -> np.ndarray:
    """Returns the outputs of a fine-tuned model for `rows`, in their order, float32, as tasks.task.Task describes them.

    session: of the model.
    rows: of one split of the task.
    head: the task's head; "span" and "tag" have outputs for each token.
    name: the title of the progress bar.
    """
    outputs = [np.empty(0)] * len(rows.lengths)
    with progress.bar(len(outputs), name, " rows") as bar:
        for numbers in _by_length(rows.lengths):
            arrays = session.run(None, _padded(rows, numbers))
            batch_outputs = np.stack(arrays, axis=-1) if head == "span" else arrays[0]
            for number, output in zip(numbers, batch_outputs, strict=True):
                outputs[number] = output[: rows.lengths[number]] if head in ("span", "tag") else output[None]
            bar.update(len(numbers))
    return np.concatenate(outputs).astype(np.float32)


def _by_length(lengths: np.ndarray) -> Iterator[np.ndarray]:
    """Yields numbers of rows of similar length, at most CALL tokens with padding at a time."""
    order = np.argsort(lengths, kind="stable")
    first = 0
    while first < len(order):
        last = first + 1
        while last < len(order) and (last + 1 - first) * lengths[order[last]] <= CALL:
            last += 1
        yield order[first:last]
        first = last


def _padded(rows: token_rows.Rows, numbers: np.ndarray) -> dict[str, np.ndarray]:
    shape = len(numbers), int(rows.lengths[numbers].max())
    batch = {name: np.zeros(shape, np.int64) for name in onnx_graph.INPUTS}
    for place, number in enumerate(numbers):
        tokens = slice(rows.starts[number], rows.starts[number + 1])
        length = rows.lengths[number]
        batch["input_ids"][place, :length] = rows.ids[tokens]
        batch["token_type_ids"][place, :length] = rows.types[tokens]
        batch["attention_mask"][place, :length] = 1
    return batch
