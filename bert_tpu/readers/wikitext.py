"""Wikipedia's markup as text: its prose, without templates, tables, lists, headings, references and files.

The BERT paper says only this about its Wikipedia text: "we extract only the text passages and ignore lists, tables, and
headers" (Devlin et al. 2019, section 3.1). What MediaWiki shows is the measure (https://www.mediawiki.org/wiki/Help:Formatting),
also where markup is not closed: the markup goes and the words stay.
"""

from collections.abc import Iterator
import html
import re

from bert_tpu.readers import wikibrackets, wikinames, wikitags, wikivariants
from bert_tpu.readers.wikitags import APART, BREAK, GAP, REMOVED

PROTOCOLS = r"(?:(?:https?|ftps?|sftp|ircs?|news|nntp|gopher|telnet|git|svn|mms)://|mailto:|tel:|sip:|magnet:)"
LINKED = re.compile(rf"\[(?:{PROTOCOLS}|//)[^\s\[\]<>\"{GAP}]*[ \t]*([^\[\]\n]*)\]", re.IGNORECASE)
BARE = re.compile(rf"\[?\b{PROTOCOLS}[^\s\[\]<>\"|{GAP}]*[^\s\[\]<>\"|{GAP}.,;:!?)]", re.IGNORECASE)
# https://www.mediawiki.org/wiki/Help:Magic_words, in any language; in English also in small letters.
SWITCH = re.compile(
    r"__(?:(?i:(?:no|force)?toc|no(?:editsection|newsectionlink|gallery|index|titleconvert|contentconvert|tc|cc)|newsectionlink"
    r"|hiddencat|index|staticredirect|disambig)|(?:[^\W\d_a-z]|_(?!_)){2,30})__"
)
CONTROLS = re.compile("[\0-\2]")  # no XML has them; here they have meanings
QUOTES = re.compile(r"'{2,}")
OPENING, ENDING = "([«“„‘（「『【《\n" + BREAK, ".,;:!?)]»”…、。，．！？；：）」』】》،؛؟।\n" + BREAK
# What removed templates leave of the brackets and commas around them.
BRACKETS = (
    (re.compile(r"([(（])(?:\s|&nbsp;|[,;:、，；：–—-](?=[\s,;)）]|&nbsp;))+"), r"\1"),
    (re.compile(r"(?:[ \t,;、，；]|&nbsp;)+([)）])"), r"\1"),
    (re.compile(r"[ \t]*(?:\(\)|（）)"), ""),
    (re.compile(r"([,、，])(?:\s*[,、，])+"), r"\1"),
)
FILE_NAME = re.compile(
    r"\s*([^:|\n]{2,24}):[^|\n]*\.(?:jpe?g|png|svg|gif|tiff?|og[gva]|web[mp]|pdf|djvu|xcf|midi?|wav|mp3)\b",
    re.IGNORECASE,
)


def text(markup: str) -> str:
    """The paragraphs of a page, one a line."""
    if CONTROLS.search(markup):
        markup = CONTROLS.sub("", markup)
    markup = wikitags.without_extensions(markup.replace("\r\n", "\n"))
    if "-{" in markup:
        markup = wikivariants.chosen(markup)
    markup = wikibrackets.without_brackets(markup)
    if "''" in markup:  # before the tags go, which keep such marks apart
        markup = "\n".join(map(_without_quotes, markup.split("\n"))).replace(APART, "")
    if "<" in markup:
        markup = wikitags.without_tags(markup)
    markup = "\n".join(_prose_lines(markup.split("\n")))
    if "//" in markup or "mailto:" in markup:
        markup = BARE.sub(REMOVED, LINKED.sub(lambda match: match[1] or REMOVED, markup))
    if "__" in markup:
        markup = SWITCH.sub("", markup)
    if GAP in markup:
        markup = _joined(markup.split(GAP)[::2])
    lines = (" ".join(line.split()) for line in html.unescape(markup).replace(BREAK, "\n").split("\n"))
    return "\n".join(line for line in lines if any(map(str.isalnum, line)))


def _prose_lines(lines: list[str]) -> Iterator[str]:
    """Yields the lines of prose, without lists, headings and tables."""
    ends = _table_ends(lines)
    number, in_rows = 0, False  # in_rows: after the beginning of a table that nothing closes
    while number < len(lines):
        line = lines[number].strip(" \t")
        if number in ends:
            number = ends[number]
            line = lines[number].lstrip(" \t:").removeprefix("|}").strip(" \t")
            if line.startswith("|"):  # it ends within a row of the table around it
                line = ""
        number += 1
        if line.startswith("{|"):
            in_rows, line = True, ""
        in_rows = in_rows and bool(line or lines[number - 1].strip().startswith("{|"))
        if not _is_other(line) and not (in_rows and line.startswith("!")):
            yield line.lstrip("-") if line.startswith("----") else line
        else:
            yield ""


def _is_other(line: str) -> bool:
    """Returns whether a line is an item of a list, a heading, a row of a table, or an entry of a gallery."""
    if line.startswith(("*", "#", ":", ";", "|", "==")) or (line.startswith("=") and line.endswith("=")):
        return True
    entry = FILE_NAME.match(line) if ":" in line[:26] else None
    return entry is not None and wikinames.is_hidden(entry[1] + ":")


def _table_ends(lines: list[str]) -> dict[int, int]:
    """Returns the number of the last line of each table, by that of its first line. A heading ends what is open."""
    starts: list[int] = []
    ends = {}
    for number, line in enumerate(lines):
        if "|" in line[:40]:
            mark = line.lstrip(" \t:")[:2]
            if mark == "{|":
                starts.append(number)
            elif mark == "|}" and starts:
                ends[starts.pop()] = number
        elif line.startswith("=="):
            starts.clear()
    return ends


def _without_quotes(line: str) -> str:
    """Returns a line without the apostrophes that make text bold or italic, and with those that are letters.

    In "l'''amour''" three apostrophes are one that is a letter and two that begin italic text. So is one mark of bold
    text read where bold and italic text are both left open: the first after a single letter, or after a longer word, or
    after a space. https://www.mediawiki.org/wiki/Help:Formatting
    """
    if "''" not in line:
        return line
    marks = list(QUOTES.finditer(line))
    lengths = [len(mark[0]) for mark in marks]
    bold = [mark for mark in marks if len(mark[0]) == 3 or len(mark[0]) == 4]
    odd = len(bold) + sum(length >= 5 for length in lengths), sum(length == 2 or length >= 5 for length in lengths)
    apostrophe = None
    if odd[0] % 2 and odd[1] % 2 and bold:
        apostrophe = min(bold, key=lambda mark: _place(line, mark.start())).start()

    def kept(mark: re.Match[str]) -> str:
        spare = max(len(mark[0]) - 5, len(mark[0]) == 4) + (mark.start() == apostrophe)
        return "'" * spare

    return QUOTES.sub(kept, line)


def _place(line: str, start: int) -> int:
    """Returns 0 for a place after a single letter, 1 after a longer word, 2 after a space."""
    before = line[max(start - 2, 0) : start]
    if not before or before[-1] == " ":
        return 2
    return 0 if len(before) == 1 or before[0] == " " else 1


def _joined(pieces: list[str]) -> str:
    """Joins the pieces of text between gaps, without the blanks that a gap leaves before a comma or twice in a row."""
    parts, is_spaced = [pieces[0]], False
    for piece in pieces[1:]:
        words = piece.lstrip(" \t")
        left = parts[-1].rstrip(" \t")
        is_spaced = is_spaced or len(words) < len(piece) or len(left) < len(parts[-1])
        parts[-1] = left
        if words:
            if is_spaced and words[0] not in ENDING and left and left[-1] not in OPENING:
                parts[-1] += " "
            parts.append(words)
            is_spaced = False
    joined = "".join(parts)
    for pattern, rest in BRACKETS:
        joined = pattern.sub(rest, joined)
    return joined
