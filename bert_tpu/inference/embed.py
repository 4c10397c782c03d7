"""Vectors of lines of text, from any layer of an encoder: in the order of the lines, for input of any length.

Lines wait for each other in windows, are sorted by length there, and go through the model in batches of few lengths, so
that little is computed for padding and few programs are compiled.
"""

from collections.abc import Iterable, Iterator
import contextlib
import functools
import itertools
import json
import os
from pathlib import Path
import sys
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bert_tpu.core import command, progress, storage
from bert_tpu.data import length_buckets, token_rows
from bert_tpu.huggingface import hf, pretrained
from bert_tpu.model import transformer
from bert_tpu.tokenizer import encoding, vocab

SHORTEST = 32  # rows are padded to 32, 64, 128, ... tokens
WINDOW = 1 << 16  # tokens, of which all vectors may be held: 200 MB at 768 wide
BLOCK = 1 << 10  # lines encoded at a time

POOLS = {
    "cls": lambda x_BLD, mask_BL: x_BLD[:, 0],
    "mean": lambda x_BLD, mask_BL: (
        jnp.einsum("BLD,BL->BD", x_BLD, mask_BL) / jnp.maximum(mask_BL.sum(1, keepdims=True), 1)
    ),
    "tokens": lambda x_BLD, mask_BL: x_BLD,
}


class Embedder(NamedTuple):
    """A loaded model, and what is wanted of it."""

    bert: transformer.Bert
    params: dict[str, Any]
    vocabulary: vocab.Vocab
    layer: int  # 0 or more
    pool: str
    batch_size: int


class Row(NamedTuple):
    """A line as the model takes it."""

    ids: np.ndarray  # uint16, with [CLS] and [SEP]
    is_cut: bool  # to what the model takes
    bytes: int  # of the line in its file


class Line(NamedTuple):
    """A line's row and what the model says of it: float32 [D], of "tokens" [L, D]."""

    row: Row
    vectors: np.ndarray


class Counts(NamedTuple):
    """What became of the lines."""

    lines: int
    cut: int


def load(path, *, layer=-1, pool="mean", batch_size=64) -> Embedder:
    """The encoder of a Hugging Face directory or workdir, float32 on the first device.

    layer: 0 for the embeddings, n for what is behind layer n; negative from the end. pool: "cls", the vector of [CLS];
    "mean", of all tokens, [CLS] and [SEP] among them; "tokens", each token's. Raises UserError for what there is not.
    """
    if pool not in POOLS:
        raise command.UserError(f"pool {pool!r} is none of {', '.join(POOLS)}")
    if batch_size < 1:
        raise command.UserError(f"batch_size {batch_size}: give 1 or more")
    found = pretrained.load(path)
    last = found.model["num_layers"]
    if not -last - 1 <= layer <= last:
        raise command.UserError(f"{path} has no layer {layer}: give 0, the embeddings, to {last}, or -1 to {-last - 1}")
    params = jax.device_put(hf.complete(found))
    return Embedder(transformer.Bert(**found.model), params, found.vocab, layer % (last + 1), pool, batch_size)


def write(embedder: Embedder, source: str, out: str) -> Counts:
    """`out` has the vectors of each line of the file `source`, of stdin if that is "-".

    X.npy: float32 [lines, D]. X.jsonl: a line each, {"vector": [D]}, of "tokens" {"tokens": [L], "vectors": [L, D]}.
    Raises UserError where there is no line, or `out` can be neither.
    """
    to = {".npy": _write_npy, ".jsonl": _write_jsonl}.get(Path(out).suffix)
    if to is None:
        raise command.UserError(f"--out {out} ends neither in .npy nor in .jsonl: name it so")
    if to is _write_npy and embedder.pool == "tokens":
        raise command.UserError(f"{out} cannot hold lines of different numbers of tokens: name a .jsonl")
    with contextlib.ExitStack() as stack:
        text = sys.stdin.buffer if source == "-" else stack.enter_context(open(source, "rb"))
        made = stack.enter_context(storage.atomic_file(out))
        size = None if source == "-" else os.stat(source).st_size
        shown = stack.enter_context(progress.bar(size, "embed"))
        counts = to(made, embedder, _shown(lines(embedder, text), shown))
        if not counts.lines:
            raise command.UserError(f"{'stdin' if source == '-' else source} is empty: give a text on each line")
    return counts


def lines(embedder: Embedder, text: Iterable[bytes]) -> Iterator[Line]:
    """Every line of `text` in its order; UserError for one that is not UTF-8."""
    for window in _windows(_rows(embedder, text)):
        yield from map(Line, window, _vectors_of(embedder, window))


def _rows(embedder, text):
    encoder, special = encoding.Encoder(embedder.vocabulary), vocab.ids(embedder.vocabulary)
    room, text = embedder.bert.max_positions - 2, enumerate(text, start=1)
    while block := list(itertools.islice(text, BLOCK)):
        codes = encoder.encode([_decoded(raw, number) for number, raw in block])
        for (_, raw), code in zip(block, codes, strict=True):
            ids = np.frombuffer(code, np.uint16)
            ids = np.concatenate([[special.cls], ids[:room], [special.sep]]).astype(np.uint16)
            yield Row(ids, len(code) // 2 > room, len(raw))


def _decoded(raw, number):
    try:
        return raw.rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        raise command.UserError(f"line {number} is not UTF-8 text: convert the file") from None


def _windows(rows):
    """Lists of rows, of WINDOW tokens or so."""
    window, tokens = [], 0
    for row in rows:
        window.append(row)
        tokens += len(row.ids)
        if tokens >= WINDOW:
            yield window
            window, tokens = [], 0
    if window:
        yield window


def _vectors_of(embedder, window):
    """The vectors of each row, in their order."""
    ids, lengths = np.concatenate([row.ids for row in window]), [len(row.ids) for row in window]
    labels = np.full(len(window), token_rows.IGNORED, np.int32)
    rows = token_rows.Rows(ids, np.zeros(len(ids), np.uint8), np.cumsum([0, *lengths]), labels)
    found = [None] * len(window)
    seq_lens = _lens(embedder.bert.max_positions)
    for numbers, batch in length_buckets.in_order(rows, batch_size=embedder.batch_size, seq_lens=seq_lens):
        with jax.default_matmul_precision("highest"):  # a TPU's default is bfloat16
            said = np.asarray(_vectors(embedder.bert, embedder.layer, embedder.pool, embedder.params, batch))
        for number, vectors in zip(numbers, said, strict=True):
            if number != length_buckets.NOBODY:
                found[number] = vectors[: lengths[number]].copy() if embedder.pool == "tokens" else vectors
    return found


def _lens(most):
    """32, 64, 128, ... and `most` itself."""
    doubled = itertools.takewhile(lambda n: n < most, (SHORTEST << i for i in itertools.count()))
    return (*doubled, most)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _vectors(bert, layer, pool, params, batch):
    inputs = (batch[name] for name in ("input_ids", "token_type_ids", "attention_mask"))
    encoded = bert.apply({"params": params}, *inputs, method="encode")
    return POOLS[pool](encoded.layers[layer], batch["attention_mask"])


def _shown(found, bar):
    for line in found:
        yield line
        bar.update(line.row.bytes)


def _write_npy(file: BinaryIO, embedder, found) -> Counts:
    number = cut = 0
    _write_header(file, number, embedder.bert.hidden_size)
    for line in found:
        file.write(line.vectors.astype("<f4").tobytes())
        number, cut = number + 1, cut + line.row.is_cut
    file.seek(0)
    _write_header(file, number, embedder.bert.hidden_size)  # as long as before: NumPy leaves room for rows to come
    return Counts(number, cut)


def _write_header(file, number, width):
    header = {"descr": "<f4", "fortran_order": False, "shape": (number, width)}
    np.lib.format.write_array_header_1_0(file, header)


def _write_jsonl(file: BinaryIO, embedder, found) -> Counts:
    number = cut = 0
    pieces = embedder.vocabulary.pieces
    for line in found:
        if embedder.pool == "tokens":
            tokens = json.dumps([pieces[i] for i in line.row.ids], ensure_ascii=False)
            written = f'{{"tokens": {tokens}, "vectors": [{", ".join(map(_listed, line.vectors))}]}}\n'
        else:
            written = f'{{"vector": {_listed(line.vectors)}}}\n'
        file.write(written.encode())
        number, cut = number + 1, cut + line.row.is_cut
    return Counts(number, cut)


def _listed(vector):
    """JSON's list of a float32 vector; nine digits tell every float32 from its neighbours."""
    return f"[{', '.join(map('{:.9g}'.format, vector.tolist()))}]"
