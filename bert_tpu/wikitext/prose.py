"""Wikipedia's markup as text: its prose, without templates, tables, lists, headings, references and files.

The BERT paper says only this about its Wikipedia text: "we extract only the text passages and ignore lists, tables, and
headers" (Devlin et al. 2019, section 3.1). What MediaWiki shows is the measure (https://www.mediawiki.org/wiki/Help:Formatting),
also where markup is not closed: the markup goes and the words stay.
"""

from collections.abc import Iterator
import html
import re

from bert_tpu.wikitext import brackets, namespaces, tags, variants
from bert_tpu.wikitext.tags import APART, BREAK, GAP, REMOVED

PROTOCOLS = r"(?:(?:https?|ftps?|sftp|ircs?|news|nntp|gopher|telnet|git|svn|mms)://|mailto:|tel:|sip:|magnet:)"
LINKED = re.compile(rf"\[(?:{PROTOCOLS}|//)[^\s\[\]<>\"{GAP}]*[ \t]*([^\[\]\n]*)\]", re.IGNORECASE)
URL = rf"[^\s\[\]<>\"|{GAP}()"  # the beginning of a set of characters
BARE = re.compile(rf"\[?\b{PROTOCOLS}(?:{URL}]|\({URL}]*\))*(?:{URL}.,;:!?]|\({URL}]*\))", re.IGNORECASE)
# https://www.mediawiki.org/wiki/Help:Magic_words, in any language; in English also in small letters.
SWITCH = re.compile(
    r"__(?:(?i:(?:no|force)?toc|no(?:editsection|newsectionlink|gallery|index|titleconvert|contentconvert|tc|cc)|newsectionlink"
    r"|hiddencat|index|staticredirect|disambig)|(?:[A-Z\d]|[^\x00-\x7f\s]|_(?!_)){2,60})__"
)
CONTROLS = re.compile("[\0-\2]")  # no XML has them; here they have meanings
TWICE_ESCAPED = re.compile("&(?:[a-z]*sp|[mn]dash|minus|hellip|quot|[lr][ds]quo|#160|#39);")  # no prose has them
QUOTES = re.compile(r"'{2,}")
OPENING, ENDING = "([«“„‘（「『【《\n" + BREAK, ".,;:!?)]»”…、。，．！？；：）」』】》،؛؟।\n" + BREAK
SPACED = ":;!?»"  # French has a space before
# What removed templates leave of the brackets and commas around them.
BRACKETS = (
    (re.compile(r"([(（])(?:\s|&nbsp;|[、，；：]|[,;:–—-](?=[\s,;)）]|&nbsp;))+"), r"\1"),
    (re.compile(r"(?<![ \t,;、，；])(?:[ \t,;、，；]|&nbsp;)+([)）])"), r"\1"),
    (re.compile(r"(?<![ \t])[ \t]*(?:\(\)|（）)"), ""),
    (re.compile(r"([,、，])(?:\s*[,、，])+"), r"\1"),
)
FILE_NAME = re.compile(
    r"\s*([^:|\n]{2,24}):[^|\n]*\.(?:jpe?g|png|svg|gif|tiff?|og[gva]|web[mp]|pdf|djvu|xcf|midi?|wav|mp3)\b",
    re.IGNORECASE,
)


def text(markup: str) -> str:
    """The paragraphs of a page, one a line."""
    return _text(markup)[0]


def gaps(markup: str) -> list[str]:
    """Names of the templates that leave a gap in a sentence: after a blank, as footnotes do not stand."""
    return _text(markup)[1]


def _text(markup: str) -> tuple[str, list[str]]:
    """Returns what `text` and `gaps` return."""
    if CONTROLS.search(markup):
        markup = CONTROLS.sub("", markup)
    if "&lt;ref" in markup and "<ref" not in markup:
        markup = html.unescape(markup)  # it was escaped once too often
    markup = tags.without_extensions(markup.replace("\r\n", "\n"))
    if "-{" in markup:
        markup = variants.chosen(markup)
    markup = brackets.without_brackets(markup)
    if "''" in markup:  # before the tags go, which keep such marks apart
        markup = "\n".join(map(_without_quotes, markup.split("\n"))).replace(APART, "")
    if "<" in markup:
        markup = tags.without_tags(markup)
    markup = "\n".join(_prose_lines(markup.split("\n")))
    if "//" in markup or "mailto:" in markup:
        markup = BARE.sub(REMOVED, LINKED.sub(lambda match: match[1] or REMOVED, markup))
    if "__" in markup:
        markup = SWITCH.sub("", markup)
    names: list[str] = []
    if GAP in markup:
        markup, names = _joined(markup.split(GAP))
    markup = TWICE_ESCAPED.sub(lambda match: html.unescape(match[0]), html.unescape(markup))
    lines = (" ".join(line.split()) for line in markup.replace(BREAK, "\n").split("\n"))
    return "\n".join(line for line in lines if any(map(str.isalnum, line))), names


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
    return entry is not None and entry[1].strip().lower() in namespaces.HIDDEN


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
    text read where bold and italic text are both left open: the first after one letter, or else after a longer word.
    https://www.mediawiki.org/wiki/Help:Formatting
    """
    if "''" not in line:
        return line
    marks = list(QUOTES.finditer(line))
    lengths = [len(mark[0]) for mark in marks]
    bold = sum(length != 2 for length in lengths)
    italic = sum(length == 2 or length >= 5 for length in lengths)
    after_letters = [mark for mark in marks if len(mark[0]) in (3, 4) and _is_letter(line, mark.start() - 1)]
    apostrophe = None
    if bold % 2 and italic % 2 and after_letters:
        apostrophe = min(after_letters, key=lambda mark: _is_letter(line, mark.start() - 2)).start()

    def kept(mark: re.Match[str]) -> str:
        spare = max(len(mark[0]) - 5, len(mark[0]) == 4) + (mark.start() == apostrophe)
        return "'" * min(spare, 1)  # more is a slip, though MediaWiki shows all

    return QUOTES.sub(kept, line)


def _is_letter(line: str, place: int) -> bool:
    return place >= 0 and line[place].isalpha()


def _joined(pieces: list[str]) -> tuple[str, list[str]]:
    """Joins the text between gaps, without the blanks that a gap leaves before a comma or twice in a row.

    pieces: text and names of gaps in turn.

    Returns the text, and the names of gaps within sentences.
    """
    parts, is_spaced, gaps = [pieces[0]], False, []
    for name, piece in zip(pieces[1::2], pieces[2::2], strict=True):
        words = piece.lstrip(" \t")
        left = parts[-1].rstrip(" \t")
        if (
            name
            and len(left) < len(parts[-1])
            and (left[-1:].isalnum() or left[-1:] == ",")
            and words[:1] not in ("", "\n")
        ):
            gaps.append(name)
        is_spaced = is_spaced or len(words) < len(piece) or len(left) < len(parts[-1])
        parts[-1] = left
        if words:
            is_apart = words[0] not in ENDING or (words[0] in SPACED and len(words) < len(piece))
            if is_spaced and is_apart and left and left[-1] not in OPENING:
                parts[-1] += " "
            parts.append(words)
            is_spaced = False
    joined = "".join(parts)
    for pattern, rest in BRACKETS:
        joined = pattern.sub(rest, joined)
    return joined, gaps
