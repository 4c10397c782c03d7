"""Tags in Wikipedia's markup: removes the elements that hold no prose, and the tags around prose.

Extension tags (<ref>, <math>, <nowiki>) end at their first closing tag, even if other tags are open, as in MediaWiki's
parser. HTML tags nest. A tag without its other half is removed, and the words after it stay.
https://en.wikipedia.org/wiki/Help:HTML_in_wikitext, https://www.mediawiki.org/wiki/Parser_extension_tags
"""

import re

GAP = "\0"  # what is left of a removed template, element or address: GAP, its name, GAP
BREAK = "\1"  # a new line that is not the markup's own: what follows is no list item and no heading
REMOVED = GAP + GAP
APART = "\2"  # between apostrophes that belong to different marks

# Extension tags whose content is no prose.
NO_PROSE = {
    "ref", "references", "gallery", "score", "timeline", "imagemap", "syntaxhighlight", "source", "pre", "hiero",
    "graph",
    "mapframe", "maplink", "templatestyles", "templatedata", "inputbox", "categorytree", "includeonly", "tabber",
    "infobox",
    "dynamicpagelist", "youtube", "verbatim", "html", "chart", "indicator", "phonos", "quiz", "charinsert", "listen",
    "dpl",
}  # fmt: skip
FORMULAS = {"math", "chem", "ce"}
EXTENSIONS = NO_PROSE | FORMULAS | {"nowiki"}
EXTENSION = re.compile(rf"<!--|<({'|'.join(sorted(EXTENSIONS))})(?![\w-])([^<>]*)>", re.IGNORECASE)
CLOSING = {name: re.compile(rf"</{name}\s*>", re.IGNORECASE) for name in EXTENSIONS}
NESTED = re.compile(r"<ref[\s>]", re.IGNORECASE)

DROPPED = {"table", "ul", "ol", "dl", "style", "rt", "rp", "rtc", "del", "strike", "s"}  # HTML elements without prose
ITEMS = {"li", "dt", "dd"}
BLOCKS = {
    "br", "hr", "p", "div", "center", "blockquote", "poem", "verse", "option", "aside",
    "h1", "h2", "h3", "h4", "h5", "h6", "caption", "tr", "td",
    "th",
}  # fmt: skip
HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
INLINE = {
    "a", "abbr", "b", "bdi", "bdo", "big", "cite", "code", "data", "dfn", "em", "font", "i", "ins", "kbd", "link",
    "mark",
    "meta", "noinclude", "nomobile", "onlyinclude", "q", "rb", "ruby", "samp", "section", "small", "span", "strong",
    "sub",
    "sup", "time", "tt", "u", "var", "wbr", "tbody", "thead", "tfoot", "col", "colgroup", "tab", "translate",
    "languages",
}  # fmt: skip
NAMES = DROPPED | ITEMS | BLOCKS | INLINE | EXTENSIONS
TAG = re.compile(rf"<(/?)\s*({'|'.join(sorted(NAMES, key=len, reverse=True))})(?![\w-])([^<>]*)>", re.IGNORECASE)
OTHER = re.compile(r"<(/?)([A-Za-z][\w-]{0,40}|(?<=/))([\s|][^<>]{0,500}?)?(/?)>")
ATTRIBUTE = re.compile(r"\s+[\w:-]+\s*=|\|")
HIDDEN = re.compile(r"display\s*:\s*none", re.IGNORECASE)

GREEK = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi omega
"""
LETTERS = dict(zip(GREEK.split(), "αβγδεζηθικλμνξπρστυφχψω", strict=True))
LETTERS |= {name.capitalize(): letter.upper() for name, letter in LETTERS.items()}
SIGNS = LETTERS | {
    "times": "×", "cdot": "·", "pm": "±", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥", "ne": "≠", "neq": "≠",
    "to": "→",
    "in": "∈", "infty": "∞", "approx": "≈", "ldots": "...", "dots": "...", "cdots": "...", "rightarrow": "→",
    "equiv": "≡",
    "left": "", "right": "", "varepsilon": "ε", "varphi": "φ", "quad": " ", "circ": "°", "ll": "≪", "gg": "≫",
    "sim": "∼",
    "displaystyle": "", "textstyle": "", "log": "log", "sin": "sin", "cos": "cos", "exp": "exp", "ln": "ln",
    "sqrt": "√",
    "mathbf": "", "mathrm": "", "mathit": "", "text": "", "vec": "", "operatorname": "", "cup": "∪", "cap": "∩",
    "subset": "⊂",
}  # fmt: skip
COMMAND = re.compile(r"\\([A-Za-z]+|[,;:! ])")
GROUP = re.compile(r"\{([^{}\\]*)\}")
FORMULA_CHARS = 60  # a longer formula is left out


def without_extensions(markup: str) -> str:
    """Returns markup without comments, extension tags and what is in them. Text in <nowiki> stays as it is."""
    parts: list[str] = []
    closings: dict[str, re.Match[str] | None] = {}  # the next one of each name: found once, however many tags open
    start = 0
    while match := EXTENSION.search(markup, start):
        parts.append(markup[start : match.start()])
        start = match.end()
        if match[1] is None:
            end = markup.find("-->", start)
            start = len(markup) if end < 0 else end + 3
            continue
        name = match[1].lower()
        if match[2].rstrip().endswith("/"):
            parts.append("" if name == "nowiki" else REMOVED)
            continue
        if name not in closings or ((closing := closings[name]) and closing.start() < start):
            closings[name] = CLOSING[name].search(markup, start)
        closing = closings[name]
        if closing is None or (name == "ref" and NESTED.search(markup, start, closing.start())):
            parts.append(" ")  # the tag alone goes
            continue
        parts.append(content(name, match[2], markup[start : closing.start()]))
        start = closing.end()
    return "".join([*parts, markup[start:]])


def content(name: str, attributes: str, inside: str) -> str:
    """Returns the prose of an element, in markup; all of it unless `name` is an extension tag.

    name: of its tag, in small letters
    attributes: of the tag, as they are written
    inside: the markup between its two tags
    """
    if name == "nowiki" or (name in ("syntaxhighlight", "source") and "inline" in attributes):
        return _literal(inside)
    if name in FORMULAS:
        return _literal(formula(inside)) or f"{GAP}{name}{GAP}"
    return REMOVED if name in NO_PROSE else inside


def _literal(text: str) -> str:
    return re.sub(r"[^\w\s.,&-]", lambda match: f"&#{ord(match[0])};", text)


def formula(tex: str) -> str:
    """Returns a short formula of letters and signs as plain text; "" for one that needs more than a line."""
    if len(tex) > 4 * FORMULA_CHARS:
        return ""
    text = COMMAND.sub(lambda match: SIGNS.get(match[1], "" if not match[1].isalpha() else match[0]), tex)
    while (plainer := GROUP.sub(r"\1", text)) != text:
        text = plainer
    text = " ".join(text.split())
    return "" if set(text) & set("\\{}&[]|~") or len(text) > FORMULA_CHARS else text


def without_tags(markup: str) -> str:
    """Returns markup without tags. HTML's tables, lists and hidden elements go as a whole; of others the words stay."""
    return _without_others(_without_html(markup))


def _without_others(markup: str) -> str:
    """Returns markup without tags of other names, which extensions of a wiki define. `<name>` alone may be prose."""
    tags = list(OTHER.finditer(markup))
    if not tags:
        return markup
    closed = {tag[2].lower() for tag in tags if tag[1]}

    def kept(tag: re.Match[str]) -> str:
        has_attributes = tag[3] is not None and ATTRIBUTE.match(tag[3]) is not None
        return REMOVED if tag[1] or tag[4] or has_attributes or tag[2].lower() in closed else tag[0]

    return OTHER.sub(kept, markup)


def _without_html(markup: str) -> str:
    tags = list(TAG.finditer(markup))
    if not tags:
        return markup
    ends = _ends(tags)
    parts: list[str] = []
    start = number = 0
    while number < len(tags):
        tag = tags[number]
        name = tag[2].lower()
        parts.append(markup[start : tag.start()])
        end = ends.get(number)
        if end is not None and (name in DROPPED or name in HEADINGS or HIDDEN.search(tag[3])):
            parts.append(BREAK if name in ("table", "ul", "ol", "dl") else "")
            number = end
        else:
            parts.append(_instead(name, is_closing=bool(tag[1]), is_lone=number not in ends))
        start = tags[number].end()
        number += 1
    return "".join([*parts, markup[start:]])


def _ends(tags: list[re.Match[str]]) -> dict[int, int]:
    """Returns the number of the closing tag of each opening tag that has one."""
    opened: dict[str, list[int]] = {}
    ends = {}
    for number, tag in enumerate(tags):
        name = tag[2].lower()
        if not tag[1]:
            if not tag[3].rstrip().endswith("/"):
                opened.setdefault(name, []).append(number)
        elif opened.get(name):
            ends[opened[name].pop()] = number
    return ends


def _instead(name: str, *, is_closing: bool, is_lone: bool) -> str:
    """Returns what stands for a tag. is_lone: it opens an element that nothing closes."""
    if name == "table":
        return "\n|}\n" if is_closing else "\n{|\n"  # a table that begins or ends in the other notation
    if name in ITEMS:
        return "\n" if is_closing else "\n*"
    return BREAK if name in BLOCKS else ""
