"""Checks that --heldout gives each split documents. It takes seconds, and the work after it may take hours."""

from collections.abc import Sequence
import contextlib
import math

import numpy as np

from bert_tpu.core import command, storage
from bert_tpu.corpus import worker
from bert_tpu.readers import decoding, hub, sources, tfds

SMALL_BYTES = 1 << 20  # of input; its work takes seconds, and its end knows more about what is wrong
MOST_DOCUMENTS, MOST_CHARS = 1000, 1 << 26  # that are read to count documents; the second takes 3 s


def check(files: Sequence[sources.Source], options: worker.Options) -> None:
    """Raises UserError if one split would have less than one document on average.

    Passes for a small input, and where it cannot count the documents in a few seconds: on the network, and where they
    are too long.
    """
    is_local = not any(
        storage.is_bucket(file.path) or file.path.startswith((tfds.PREFIX, hub.PREFIX)) for file in files
    )
    if not is_local or sum(file.bytes for file in files) < SMALL_BYTES:
        return
    share = min(options.heldout, 1 - options.heldout)
    count = _count(files, options, min(math.ceil(1 / share), MOST_DOCUMENTS))
    if count is None or count * share > 1 - 1e-9:  # 1 - 0.9 is less than 0.1
        return
    if count == 1:
        raise command.UserError(
            f"--heldout {options.heldout} puts all documents (1) into one split; try more documents"
        )
    split = "evaluation" if options.heldout < 0.5 else "training"
    raise command.UserError(
        f"--heldout {options.heldout} of {count} documents is less than one document for {split}; try "
        f"--heldout {min(5 / count, 0.5):.2g}, or more documents"
    )


def bounds(hashes: np.ndarray) -> tuple[float, float] | None:
    """Returns (low, high): any --heldout between them gives each split two documents or more. None: there is none.

    hashes: uint64 [documents]. A document is held out if its hash is below --heldout x 2**64
    """
    shares = np.unique(hashes) / 2.0**64
    return (float(shares[1]), float(shares[-2])) if len(shares) > 3 else None


def _count(files: Sequence[sources.Source], options: worker.Options, needed: int) -> int | None:
    """Returns the number of documents; None if it is 0, at least `needed`, or takes too long to find out."""
    if options.format == "file":
        count = sum(file.bytes > 0 for file in files)
        return count if 0 < count < needed else None
    count, chars = 0, 0
    read = sources.documents(files, decoding.Counts(), text_format=options.format, column=options.column)
    with contextlib.closing(read):
        for document in read:
            count = document.number + 1
            chars += len(document.text)
            if count >= needed or chars > MOST_CHARS:
                return None
    return count or None
