"""What a smaller form costs: bytes, time, held-out losses or a task's scores, measured with onnxruntime on this CPU."""

import statistics
import time

import numpy as np

from bert_tpu.core import progress
from bert_tpu.export import onnx_graph

RUNS = 30  # of the one row that is timed, the median counts
# Tokens of a call: the MLM head's logits of 1,024 and 30,522 pieces are 125 MB.
CALL = 1024


def latencies(sessions, tokens) -> list[float]:
    """Milliseconds of one row of `tokens` tokens in each session: the median of RUNS, after one to warm up.

    They take turns, so that other work on the machine slows all of them.
    """
    ids = np.ones((1, tokens), np.int64)
    row = {"input_ids": ids, "attention_mask": ids, "token_type_ids": 0 * ids}
    times = [[] for _ in sessions]
    for run in range(RUNS + 1):
        for session, taken in zip(sessions, times, strict=True):
            started = time.perf_counter()
            session.run(None, row)
            if run:
                taken.append(time.perf_counter() - started)
    return [1000 * statistics.median(taken) for taken in times]


def pretraining(session, batches, name) -> dict[str, float]:
    """MLM loss in nats, MLM and NSP accuracy for each length, "mlm_loss 128": of a BertForPreTraining's session.

    batches: [(sequence length, batch as data.heldout has it)], of rows that hold one example each.
    """
    totals = {}
    with progress.bar(sum(len(batch["input_ids"]) for _, batch in batches), name, " rows") as shown:
        for seq_len, batch in batches:
            total = totals.setdefault(seq_len, np.zeros(5))
            step = max(1, CALL // seq_len)
            for first in range(0, len(batch["input_ids"]), step):
                rows = {key: value[first : first + step] for key, value in batch.items()}
                total += _sums(session, rows)
                shown.update(len(rows["input_ids"]))
    found = {}
    for seq_len, (loss, right, masked, next_right, examples) in sorted(totals.items()):
        found |= {
            f"mlm_loss {seq_len}": loss / masked,
            f"mlm_accuracy {seq_len}": right / masked,
            f"nsp_accuracy {seq_len}": next_right / examples,
        }
    return found


def _sums(session, rows):
    """(loss, right answers and number of masked pieces, right answers and number of NSP)."""
    mlm_BLV, nsp_BC = session.run(["logits", "seq_relationship_logits"], _inputs(rows))
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


def _inputs(rows):
    return {key: np.ascontiguousarray(rows[key], np.int64) for key in onnx_graph.INPUTS}


def task(session, read, split, name) -> dict[str, float]:
    """The scores of a fine-tuned model's session on `split` of `read`, a tasks.task.Task, the main one first."""
    rows = read.splits[split]
    said = [None] * len(rows.lengths)
    with progress.bar(len(said), name, " rows") as shown:
        for which in _by_length(rows.lengths):
            batch = _padded(rows, which)
            outputs = session.run(None, batch)
            outputs = np.stack(outputs, axis=-1) if read.head == "span" else outputs[0]
            for place, number in enumerate(which):
                of_row = outputs[place]
                said[number] = of_row[: rows.lengths[number]] if read.head in ("span", "tag") else of_row[None]
            shown.update(len(which))
    return read.score(split, np.concatenate(said).astype(np.float32))


def _by_length(lengths):
    """Numbers of rows, CALL tokens with padding at a time."""
    order = np.argsort(lengths, kind="stable")
    first = 0
    while first < len(order):
        last = first + 1
        while last < len(order) and (last + 1 - first) * lengths[order[last]] <= CALL:
            last += 1
        yield order[first:last]
        first = last


def _padded(rows, which):
    shape = len(which), int(rows.lengths[which].max())
    batch = {name: np.zeros(shape, np.int64) for name in onnx_graph.INPUTS}
    for place, number in enumerate(which):
        there = slice(rows.starts[number], rows.starts[number + 1])
        length = rows.lengths[number]
        batch["input_ids"][place, :length] = rows.ids[there]
        batch["token_type_ids"][place, :length] = rows.types[there]
        batch["attention_mask"][place, :length] = 1
    return batch
