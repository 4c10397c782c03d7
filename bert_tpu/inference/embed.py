"""Computes vectors of lines of text from any layer of an encoder, in the order of the lines, for input of any length.

Lines are collected in windows, sorted by length within a window, and computed in batches of a few fixed lengths. Little
is then computed for padding, and few programs are compiled.
"""

from collections.abc import Iterable, Iterator
import contextlib
import functools
import itertools
import json
import os
from pathlib import Path
import sys
from typing import Any, BinaryIO, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from bert_tpu.core import command, progress, storage
from bert_tpu.data import length_buckets, token_rows
from bert_tpu.huggingface import hf, pretrained
from bert_tpu.inference import line_texts
from bert_tpu.model import transformer
from bert_tpu.tokenizer import encoding, vocab

SHORTEST = 32  # rows are padded to 32, 64, 128, ... tokens
WINDOW = 1 << 16  # tokens whose vectors may all be in memory: 200 MB at 768 wide
BLOCK = 1 << 10  # lines encoded at a time

POOLS = {
    "cls": lambda x_BLD, mask_BL: x_BLD[:, 0],
    "mean": lambda x_BLD, mask_BL: (
        jnp.einsum("BLD,BL->BD", x_BLD, mask_BL) / jnp.maximum(mask_BL.sum(1, keepdims=True), 1)
    ),
    "tokens": lambda x_BLD, mask_BL: x_BLD,
}


class Embedder(NamedTuple):
    """A loaded model, the layer to read, how to pool its tokens, and the batch size."""

    bert: transformer.Bert
    params: dict[str, Any]
    vocabulary: vocab.Vocab
    layer: int  # 0 or more
    pool: str
    batch_size: int


class Row(NamedTuple):
    """A line as the model reads it."""

    ids: np.ndarray  # uint16, or uint32 of a large vocabulary, with [CLS] and [SEP]
    is_cut: bool  # True if the line has more tokens than the model has positions
    bytes: int  # length of the line in its file
    is_marked: bool  # True if its text has the name of a special piece, which transformers would take for the piece


class Line(NamedTuple):
    """A line's row and its vector, float32 [D]; for the pool "tokens" the vectors of its tokens, float32 [L, D]."""

    row: Row
    vectors: np.ndarray


class Counts(NamedTuple):
    """How many lines were written, and how many of them were cut to the model's positions or are `Row.is_marked`."""

    lines: int = 0
    cut: int = 0
    marked: int = 0


def load(path: str | Path, *, layer: int = -1, pool: str = "mean", batch_size: int = 64) -> Embedder:
    """Loads the encoder of a Hugging Face directory or workdir, in float32 on the first device.

    path: the directory.
    layer: 0 for the embeddings, n for the output of layer n; a negative number counts from the end.
    pool: "cls" for the vector of [CLS]; "mean" over all tokens, [CLS] and [SEP] included; "tokens" for each token's.
    batch_size: rows computed at a time.
    Raises UserError for a pool, a layer or a batch size that does not exist.
    """
    if pool not in POOLS:
        raise command.UserError(f"pool {pool!r} is none of {', '.join(POOLS)}")
    if batch_size < 1:
        raise command.UserError(f"batch_size {batch_size}: give 1 or more")
    model = pretrained.load(path)
    last = model.model["num_layers"]
    if not -last - 1 <= layer <= last:
        raise command.UserError(f"{path} has no layer {layer}: give 0, the embeddings, to {last}, or -1 to {-last - 1}")
    params = jax.device_put(hf.complete(model))
    return Embedder(transformer.Bert(**model.model), params, model.vocab, layer % (last + 1), pool, batch_size)


def write(embedder: Embedder, source: str | Path, out: str | Path) -> Counts:
    """Writes the vectors of each line of the file `source`, or of stdin if that is "-", to the file `out`.

    X.npy: float32 [lines, D]. X.jsonl: a line each, {"vector": [D]}; for the pool "tokens"
    {"tokens": [L], "vectors": [L, D]}.
    Raises UserError if the input has no line, if it is JSON or a table, or if `out` cannot store the vectors.
    """
    write_lines = {".npy": _write_npy, ".jsonl": _write_jsonl}.get(Path(out).suffix)
    if write_lines is None:
        raise command.UserError(f"--out {out} ends neither in .npy nor in .jsonl: name it so")
    if write_lines is _write_npy and embedder.pool == "tokens":
        raise command.UserError(f"{out} cannot store lines of different numbers of tokens: name a .jsonl")
    with contextlib.ExitStack() as stack:
        text = sys.stdin.buffer if source == "-" else stack.enter_context(open(source, "rb"))
        file = stack.enter_context(storage.atomic_file(out))
        size = None if source == "-" else os.stat(source).st_size
        bar = stack.enter_context(progress.bar(size, "embed"))
        counts = write_lines(file, embedder, _with_progress(lines(embedder, line_texts.checked(text, source)), bar))
        if not counts.lines:
            raise command.UserError(f"{line_texts.name(source)} is empty: give a text on each line")
    return counts


def lines(embedder: Embedder, text: Iterable[bytes]) -> Iterator[Line]:
    """Yields every line of `text` in its order. Raises UserError for a line that is not UTF-8."""
    for window in _windows(_rows(embedder, text)):
        yield from map(Line, window, _vectors_of(embedder, window))


def _rows(embedder: Embedder, text: Iterable[bytes]) -> Iterator[Row]:
    encoder, special = encoding.Encoder(embedder.vocabulary), vocab.ids(embedder.vocabulary)
    room, numbered = embedder.bert.max_positions - 2, enumerate(text, start=1)
    while block := list(itertools.islice(numbered, BLOCK)):
        texts = [_decoded(raw, number) for number, raw in block]
        for (_, raw), decoded, code in zip(block, texts, encoder.encode(texts), strict=True):
            ids = np.frombuffer(code, encoder.dtype)
            row = np.concatenate([[special.cls], ids[:room], [special.sep]]).astype(encoder.dtype)
            yield Row(row, len(ids) > room, len(raw), any(name in decoded for name in embedder.vocabulary.specials))


def _decoded(raw: bytes, number: int) -> str:
    try:
        return raw.rstrip(b"\r\n").decode()
    except UnicodeDecodeError:
        raise command.UserError(f"line {number} is not UTF-8 text: convert the file") from None


def _windows(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Yields lists of rows of about WINDOW tokens."""
    window, tokens = [], 0
    for row in rows:
        window.append(row)
        tokens += len(row.ids)
        if tokens >= WINDOW:
            yield window
            window, tokens = [], 0
    if window:
        yield window


def _vectors_of(embedder: Embedder, window: list[Row]) -> list[np.ndarray]:
    """Returns the vectors of each row, in the order of the rows."""
    ids, lengths = np.concatenate([row.ids for row in window]), [len(row.ids) for row in window]
    labels = np.full(len(window), token_rows.IGNORED, np.int32)
    rows = token_rows.Rows(ids, np.zeros(len(ids), np.uint8), np.cumsum([0, *lengths]), labels)
    vectors = [np.empty(0)] * len(window)
    seq_lens = _lens(embedder.bert.max_positions)
    for numbers, batch in length_buckets.batches(rows, batch_size=embedder.batch_size, seq_lens=seq_lens):
        with jax.default_matmul_precision("highest"):  # a TPU's default is bfloat16
            outputs = np.asarray(_vectors(embedder.bert, embedder.layer, embedder.pool, embedder.params, batch))
        for number, output in zip(numbers, outputs, strict=True):
            if number != length_buckets.EMPTY:
                vectors[number] = output[: lengths[number]].copy() if embedder.pool == "tokens" else output
    return vectors


def _lens(longest: int) -> tuple[int, ...]:
    """32, 64, 128, ... and `longest` itself, in tokens."""
    doubled = itertools.takewhile(lambda n: n < longest, (SHORTEST << i for i in itertools.count()))
    return (*doubled, longest)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _vectors(
    bert: transformer.Bert, layer: int, pool: str, params: dict[str, Any], batch: dict[str, jax.Array]
) -> jax.Array:
    inputs = (batch[name] for name in ("input_ids", "token_type_ids", "attention_mask"))
    encoded = cast(transformer.Encoded, bert.apply({"params": params}, *inputs, method="encode"))
    return POOLS[pool](encoded.layers[layer], batch["attention_mask"])


def _with_progress(results: Iterable[Line], bar: tqdm.tqdm) -> Iterator[Line]:
    for line in results:
        yield line
        bar.update(line.row.bytes)


def _write_npy(file: BinaryIO, embedder: Embedder, results: Iterable[Line]) -> Counts:
    counts = Counts()
    _write_header(file, counts.lines, embedder.bert.hidden_size)
    for line in results:
        file.write(line.vectors.astype("<f4").tobytes())
        counts = _with_line(counts, line.row)
    file.seek(0)
    # NumPy pads the header for growth, so this one is as long as the first.
    _write_header(file, counts.lines, embedder.bert.hidden_size)
    return counts


def _with_line(counts: Counts, row: Row) -> Counts:
    return Counts(counts.lines + 1, counts.cut + row.is_cut, counts.marked + row.is_marked)


def _write_header(file: BinaryIO, number: int, width: int) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": (number, width)}
    np.lib.format.write_array_header_1_0(file, header)


def _write_jsonl(file: BinaryIO, embedder: Embedder, results: Iterable[Line]) -> Counts:
    counts = Counts()
    pieces = embedder.vocabulary.pieces
    for line in results:
        if embedder.pool == "tokens":
            tokens = json.dumps([pieces[i] for i in line.row.ids], ensure_ascii=False)
            text = f'{{"tokens": {tokens}, "vectors": [{", ".join(map(_json_list, line.vectors))}]}}\n'
        else:
            text = f'{{"vector": {_json_list(line.vectors)}}}\n'
        file.write(text.encode())
        counts = _with_line(counts, line.row)
    return counts


def _json_list(vector: np.ndarray) -> str:
    """A float32 vector as a JSON list. Nine digits distinguish every float32 from its neighbours."""
    return f"[{', '.join(map('{:.9g}'.format, vector.tolist()))}]"
