"""A table of all documents of an unfinished corpus, without their tokens: memory must do for 1e9 of them."""

from typing import NamedTuple

from etils import epath
import numpy as np

from bert_tpu.core import progress
from bert_tpu.corpus import selection, worker


class Documents(NamedTuple):
    """The documents of all parts in their order; [D] each, 37 bytes a document together.

    Tokens are int64, because their products with numbers of copies and their sums must fit.
    """

    part: np.ndarray  # number of the part
    row: np.ndarray  # of the document in its part
    source: np.ndarray
    hash: np.ndarray  # of its tokens
    is_piece: np.ndarray  # of a document that was cut when it was read
    origin: np.ndarray  # number of its text; pieces and copies of a text have the same
    sentences: np.ndarray
    tokens: np.ndarray


def read(out: epath.Path, parts: list[str]) -> Documents:
    """Reads all documents of an unfinished corpus, but for their tokens.

    out: its folder
    parts: names of its parts, in order
    """
    columns = []
    with progress.bar(len(parts), "documents", unit="part") as bar:
        for i, part in enumerate(parts):
            lengths, sentences, number, source, hashes, piece = worker.load(
                out, part, "sentences", "documents", "origins", "source", "hash", "piece"
            )
            tokens = selection.tokens_per_document(lengths, sentences)
            # The documents of a unit are numbered: unit and number identify a text, whole or in pieces.
            text = number.astype(np.int64) | worker.unit_of(part) << 32
            row = np.arange(len(hashes), dtype=np.int32)
            part_number = np.full(len(hashes), i, np.int32)
            columns.append([part_number, row, source, hashes, piece != 0, text, sentences, tokens])
            bar.update()
    columns = columns or [[np.empty(0, np.int32)] * 8]
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    part_number, row, source, hashes, is_piece, text, sentences, tokens = joined
    del columns, joined  # the types below are smaller
    is_first = np.diff(text, prepend=-1) != 0  # the pieces of a text follow each other
    # With --duplicates keep, equal texts need one origin, too: they are equal if the hashes of their first pieces are.
    _, origin_of_text = np.unique(hashes[is_first], return_inverse=True)
    return Documents(
        part=part_number,
        row=row,
        source=source.astype(np.int32),
        hash=hashes,
        is_piece=is_piece,
        origin=origin_of_text.astype(np.uint32)[np.cumsum(is_first) - 1],
        sentences=sentences.astype(np.int32),
        tokens=tokens,
    )
