"""Sentences: the units that NSP pairs are made of, found by nupunkt's trained English model."""

from collections.abc import Callable
import functools

from bert_tpu.readers import formats

MAX_CHARS = 10_000  # of text split at once: nupunkt is quadratic in a run such as "?!?!?!"


def split(document: str) -> list[str]:
    """The sentences of a document in order; none is blank and none crosses a newline.

    Every character that is not white space at an edge of a sentence is in one of them. A line of
    more than MAX_CHARS is cut at white space before it is split.
    """
    split_line = _model()
    found = []
    for line in document.split("\n"):
        for piece in formats.pieces(line, MAX_CHARS):
            found += split_line(piece)
    return [stripped for sentence in found if (stripped := sentence.strip())]


@functools.cache
def _model() -> Callable[[str], list[str]]:
    import nupunkt  # here, because only the processes that split need it

    return nupunkt.load("default").tokenize
