"""Joins the lines of hard-wrapped text, such as Project Gutenberg's books, mails and RFCs, to paragraphs.

A wrapped text breaks its lines at one width W: a line has at most W columns, and the first word of the next line would
not have fitted. Poems, lists, dialogues and texts of one sentence or one paragraph a line do not.

- A document is wrapped if one W explains most of its line breaks (`_width`), and if sentences run on over these breaks.
- In a wrapped document, a line that is nearly full is joined with the next one. A short line, a blank line, a deeper
  indent and a list's mark end a paragraph, so that headings, verses and lists in a wrapped book stay apart.
- If a blank line follows nearly every line, blank lines end nothing.
- A hyphen at a line's end stays, unless one line in HYPHENATED ends in one: then words were hyphenated, and it goes,
  except from words that the document has with this hyphen within a line.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
import itertools
import re

WIDTHS = (35, 140)  # columns that a wrapped text can have
LEAST_BREAKS = 3  # that one width explains; fewer can be chance
MOST_BREAKS = 1000  # that decide on a document; more would only take time
LONGEST_WORD = 20  # columns; a longer word says little about a width
RAGGED = 6  # columns that a program which evens out the lines, such as fmt, leaves free
HYPHENATED = 25
# Scripts without spaces between words: lines are joined without one. Wide characters take two columns.
WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\u303e\u3041-\u4dbf\u4e00-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60"
    "\uffe0-\uffe6\U0001f300-\U0001faff\U00020000-\U0003fffd]"
)
SPACELESS = re.compile("[\u0e00-\u109f\u1780-\u17ff\u2e80-\u9fff\uf900-\ufaff\uff00-\uff9f\U00020000-\U0003fffd]")
SENTENCE_ENDS = re.compile(
    "[.!?:;\u2026\u3002\uff01\uff1f\u0964\u06d4\u061f\u104b\u17d4\u0589\u1362][\"'\u201d\u2019\u00bb)\\]\u300d\u300f]*$"
)
LIST_MARK = re.compile(r"\s*(?:[-*+\u2022\u2013>|#]\s|>|\(?(?:\d{1,3}|[A-Za-z])[.)]\s)")
LETTER_HYPHEN = re.compile(r"[^\W\d_][-\u2010]$")
COMPOUND, WORD_END, WORD_START = map(re.compile, (r"\w+(?:[-\u2010]\w+)+", r"[\w\u2010-]+$", r"^[\w\u2010-]+"))
DASH_END, DASH_START = re.compile(r"\w[-\u2010]$|\S(?:--|\u2014)$"), re.compile(r"(?:--|\u2014)\S")  # without a space


def join(text: str) -> str:
    """Returns a document with the lines of each paragraph joined to one if its lines are wrapped; else the same object.

    text: a document; its lines end with newlines.
    """
    lines = text.split("\n")
    if len(lines) <= LEAST_BREAKS or sorted(map(len, lines))[len(lines) * 9 // 10] > WIDTHS[1]:
        return text
    lines = _single_spaced(lines)
    columns = _columns if WIDE.search(text) else len
    measures = [columns] if columns is len else [columns, len]  # a program may count characters, not columns
    for measure in measures:
        if width := _width(lines, measure):
            return "\n".join(_paragraphs(lines, width, measure))
    return text


def are_paragraphs(texts: Sequence[str]) -> bool:
    """Returns whether texts are the paragraphs of one wrapped text. Texts of at most two lines each do not show it."""
    breaks = [text.count("\n") for text in texts]
    several = sum(count > 1 for count in breaks)
    if not several or several * 5 < sum(count > 0 for count in breaks):
        return False
    text = "\n\n".join(texts)
    return join(text) is not text


def _single_spaced(lines: list[str]) -> list[str]:
    """Returns the lines, without blank ones if a blank line follows nearly every line."""
    filled = [line for line in lines if line.strip()]
    breaks = sum(bool(a.strip() and b.strip()) for a, b in itertools.pairwise(lines))
    return filled if breaks < LEAST_BREAKS and breaks * 20 < len(filled) else lines


def _columns(line: str) -> int:
    return len(line) + len(WIDE.findall(line))


def _width(lines: list[str], measure: Callable[[str], int]) -> int:
    """Returns the width at which a document's lines are wrapped, 0 if they are not. measure: length of a line."""
    breaks = [(a, b) for a, b in itertools.pairwise(lines) if a.strip() and b.strip()]
    breaks = breaks[:: -(-len(breaks) // MOST_BREAKS) or 1]
    if len(breaks) < LEAST_BREAKS:
        return 0
    # Letters without capitals cannot show that a line begins a sentence, so the width must explain more breaks.
    is_cased = sum(_is_cased(b) for _, b in breaks) * 2 > len(breaks)
    slack, share = (RAGGED, 0.5) if is_cased else (0, 0.7)
    spans = [(length := measure(a.rstrip()), length + _first_word(b, measure) + 1 + slack) for a, b in breaks]
    width = _most_spans(spans)
    explained = [pair for pair, (low, high) in zip(breaks, spans, strict=True) if low <= width < high]
    if len(explained) < max(LEAST_BREAKS, share * len(breaks)) or not WIDTHS[0] <= width <= WIDTHS[1]:
        return 0
    return width if sum(_runs_on(a, b) for a, b in explained) >= 0.3 * len(explained) else 0


def _most_spans(spans: list[tuple[int, int]]) -> int:
    """Returns the number that lies in most of the spans (low, high), without `high`; the largest of these."""
    changes: collections.Counter[int] = collections.Counter()
    for low, high in spans:
        changes[low] += 1
        changes[high] -= 1
    depth, depths = 0, {}
    for position in sorted(changes):
        depth += changes[position]
        depths[position] = depth
    return max(depths, key=lambda position: (depths[position], position))


def _first_word(line: str, measure: Callable[[str], int]) -> int:
    """Returns the columns of a line's first word; that of a script without spaces is one character."""
    word = line.split(maxsplit=1)[0]
    if not word.isascii() and (found := SPACELESS.search(word)):
        word = word[: max(found.start(), 1)]
    return min(measure(word), LONGEST_WORD)


def _is_cased(line: str) -> bool:
    letter = next(filter(str.isalpha, line), "")
    return letter.lower() != letter.upper()


def _runs_on(line: str, following: str) -> bool:
    """Returns whether a sentence seems to run on from a line to the following one."""
    start, end = following.lstrip()[0], line.rstrip()
    has_words = " " in line.strip() or SPACELESS.search(line)
    return bool(has_words) and start.isalpha() and not start.isupper() and not SENTENCE_ENDS.search(end)


def _paragraphs(lines: list[str], width: int, measure: Callable[[str], int]) -> Iterator[str]:
    """Yields the paragraphs of a document that is wrapped at `width`."""
    is_hyphenated = sum(bool(LETTER_HYPHEN.search(line)) for line in lines) * HYPHENATED >= len(lines)
    compounds = {word for line in lines for word in COMPOUND.findall(line)} if is_hyphenated else None
    least = width - width // 8  # columns that a line needs with the first word of the next one
    paragraph: list[str] = []
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if not (words := line.strip()):
            continue
        paragraph.append(words)
        following_words = following.strip()
        is_full = following_words and measure(line.rstrip()) + 1 + _first_word(following, measure) > least
        if is_full and not _begins_paragraph(line, following):
            paragraph.append(_glue(paragraph, following_words, compounds))
        else:
            yield "".join(paragraph)
            paragraph = []


def _begins_paragraph(line: str, following: str) -> bool:
    """Returns whether the line after `line` has a list's mark or a deeper indent."""
    if LIST_MARK.match(following):
        return True
    return following[0].isspace() and _indent(following) - _indent(line) > 1 and not LIST_MARK.match(line)


def _indent(line: str) -> int:
    blank = line[: len(line) - len(line.lstrip())]
    return len(blank.expandtabs()) + blank.count("\u3000")


def _glue(paragraph: list[str], following: str, compounds: set[str] | None) -> str:
    """Returns what comes between the paragraph's last line and the following one. May remove that line's hyphen.

    compounds: the words with hyphens of a text whose words were hyphenated; None for another text.
    """
    last = paragraph[-1]
    is_cut = compounds is not None and following[0].islower() and LETTER_HYPHEN.search(last)
    if is_cut and WORD_END.findall(last)[-1] + WORD_START.findall(following)[0] in (compounds or ()):
        return ""
    if is_cut or last.endswith("\u00ad"):
        paragraph[-1] = last[:-1]
        return ""
    is_dash = DASH_END.search(last) or DASH_START.match(following)
    return "" if is_dash or (SPACELESS.match(last[-1]) and SPACELESS.match(following[0])) else " "
