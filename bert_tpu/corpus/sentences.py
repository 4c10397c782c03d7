"""Splits documents into the sentences that NSP pairs consist of, with nupunkt's trained English model."""

from collections.abc import Callable
import functools

from bert_tpu.readers import formats

MAX_CHARS = 10_000  # characters split at once: nupunkt is quadratic in a run such as "?!?!?!"


def split(document: str) -> list[str]:
    """Returns the sentences of a document in order; none is blank and none contains a newline.

    Only white space at the edges of a sentence is dropped. A line of more than MAX_CHARS characters
    is cut at white space before it is split.
    """
    split_line = _model()
    lines = document.split("\n")
    parts = (part for line in lines for piece in formats.pieces(line, MAX_CHARS) for part in split_line(piece))
    return [sentence for part in parts if (sentence := part.strip())]


@functools.cache
def _model() -> Callable[[str], list[str]]:
    import nupunkt  # here, because only the processes that split need it

    return nupunkt.load("default").tokenize
