"""Text that WikiExtractor wrote: <doc> files, and JSON lines of its option --json.

By default version 3 escapes the text for HTML, in both forms: "AT&amp;T", "3 &lt; 5". Earlier versions do not.
So the text itself shows which it is. Escaped text has no `&` but those of entities, and neither `<` nor `>`, while
other text has them in every few pages. A file is taken for escaped until it has one of these. The text is then
unescaped once.

A document begins with its title on a line of its own, which is removed, like the headings in a dump: the BERT paper
extracts "only the text passages". With the option --links, the words of a link stay and its address is removed.
https://github.com/attardi/wikiextractor
"""

from collections.abc import Iterator
import html
import io
import re
from typing import Any

from bert_tpu.core import command
from bert_tpu.readers import decoding
from bert_tpu.readers.decoding import Counts

UNESCAPED = re.compile(r"&(?!#?\w{1,31};)|[<>]")
TAGS = re.compile(rb"^\s*</?doc\b.*$", re.MULTILINE)
CUT = re.compile(rb"(?:&#?\w{0,31}|</?(?:do?)?)\Z")  # an entity or a tag that goes on behind the end
LINK = re.compile(r'<a href="[^">]*">|</a>')


class Unescape:
    """Unescapes the text of one file, if it is escaped."""

    def __init__(self, head: bytes = b""):
        """Begins a file. head: its beginning, from which the answer is known before the first line."""
        self._is_escaped = not UNESCAPED.search(TAGS.sub(b"", CUT.sub(b"", head)).decode(errors="replace"))

    def __call__(self, text: str) -> str:
        """The text as a reader of Wikipedia sees it."""
        if self._is_escaped and UNESCAPED.search(text):
            self._is_escaped = False
        if self._is_escaped and "&" in text:
            text = html.unescape(text)
        return LINK.sub("", text) if "<a href=" in text else text


def texts(file: io.BufferedReader, path: str, counts: Counts, head: bytes = b"") -> Iterator[str | None]:
    """The paragraphs of the documents in a <doc> file. head: the beginning of the file.

    Raises UserError, with the line, for text outside of a <doc>, a <doc> inside another, and a file that was cut short.
    """
    inside, opening, unescape = False, "", Unescape(head)
    for number, line in decoding.lines(file, path, counts):
        mark = line.strip()
        opens = mark.startswith("<doc id=" if inside else "<doc ")
        if opens == inside and (opens or mark):
            problem = "a <doc> inside another" if inside else "text outside of <doc>"
            raise command.UserError(f"{path} line {number} has {problem}; extract it again, or set --format text")
        if opens:
            inside, opening = True, mark
        elif inside and mark == "</doc>":
            inside = False
            yield None
        elif inside:
            if f'title="{mark}"' not in opening:
                yield unescape(line)
            opening = "" if mark else opening  # only the first line is the title
    if inside:
        raise command.UserError(f"{path} ends inside a <doc>: it was cut short; extract it again")


def wrote(record: dict[str, Any]) -> bool:
    """Returns whether an object of a JSON lines file is WikiExtractor's, by the form of its address."""
    return "title" in record and "?curid=" in str(record.get("url"))


def body(record: dict[str, Any], text: str, unescape: Unescape) -> str:
    """The text of such an object without the title, with which it began before version 3."""
    return unescape(text.removeprefix(f"{record['title']}\n"))
