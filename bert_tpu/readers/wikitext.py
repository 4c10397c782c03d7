"""WikiText-2 and WikiText-103: articles in one file of lines, or a line a row, with tokens apart by spaces.

A title is ` = Title = `, a heading within an article ` = = Heading = = `; both are removed, like headings in a dump.
Hyphens, commas and points within words are ` @-@ `, ` @,@ ` and ` @.@ `. Other punctuation stays apart by spaces, which
changes nothing for WordPiece. https://arxiv.org/abs/1609.07843
"""

from collections.abc import Iterable, Iterator
import io
import itertools
import re

from bert_tpu.readers import decoding
from bert_tpu.readers.decoding import Counts

FORM = re.compile(r"^ (?:= )+[^=\n].* (?:= ?)+\r?$", re.MULTILINE)  # a heading; wikis' own have no spaces around them
MARKS = (" @-@ ", " @,@ ", " @.@ ", "<unk>", " = = ")
HEADING = re.compile(r"\s*((?:= )+)[^=\n].* =\s*")
IN_JSON = re.compile(rb'": *" = [^"=\n]+ = (?:\\n)?"')  # a title in JSON lines
JOINED = re.compile(r" *@([-,.])@ *")
PEEKED, PEEKED_BYTES = 1000, 1 << 20  # rows of a table that show whether they are lines of such a file


def is_form(text: str) -> bool:
    """Returns whether the beginning of a file is of this form: it has a heading, and a mark of the form besides.

    A displayed equation, ` = a + b = `, looks like a title.
    """
    return FORM.search(text) is not None and any(mark in text for mark in MARKS)


def lines(texts: Iterable[str]) -> Iterator[str | None]:
    """The paragraphs of the articles, None after each. texts: the lines."""
    for text in texts:
        heading = HEADING.fullmatch(text) if "=" in text else None
        if heading and heading[1] == "= ":
            yield None
        elif not heading and text.strip():
            yield JOINED.sub(r"\1", text) if "@" in text else text
    yield None


def texts(file: io.BufferedReader, path: str, counts: Counts) -> Iterator[str | None]:
    """The paragraphs of the articles in an open file, None after each. path: names the file in errors."""
    yield from lines(line for _, line in decoding.lines(file, path, counts))


def rows(values: Iterator[bytes]) -> tuple[bool, Iterator[bytes]]:
    """Whether the values of a column are the lines of such a file, and the values."""
    first, size = [], 0
    for row in values:
        first.append(row)
        size += len(row)
        if len(first) == PEEKED or size > PEEKED_BYTES:
            break
    has_headings = any(FORM.search(row.decode(errors="replace")) for row in first if row.startswith(b" ="))
    are_lines = has_headings and not any(b"\n" in row.rstrip(b"\n") for row in first)
    return are_lines, itertools.chain(first, values)


def from_rows(
    values: Iterable[bytes], path: str, counts: Counts, *, is_start: bool = True, following: Iterable[bytes] = ()
) -> Iterator[str | None]:
    """The paragraphs of the articles whose lines are the values of a column.

    An article of a file that is read in shares is in the share that has its title, whole: what comes before a share's
    first title belongs to an earlier share.

    is_start: whether the values begin the file.
    following: the values after them.
    """
    decoder, numbers = decoding.Decoder(path, counts, "document"), itertools.count(1)

    def decoded(raws: Iterable[bytes]) -> Iterator[str]:
        for raw in raws:
            counts.read_bytes += len(raw)
            yield decoder.decode(raw, next(numbers)).rstrip("\r\n")

    own = decoded(values)
    if not is_start:
        own = itertools.dropwhile(lambda text: not _is_title(text), own)
    if (first := next(own, None)) is not None:
        rest = itertools.takewhile(lambda text: not _is_title(text), decoded(following))
        yield from lines(itertools.chain([first], own, rest))


def _is_title(text: str) -> bool:
    heading = HEADING.fullmatch(text) if "=" in text else None
    return heading is not None and heading[1] == "= "
