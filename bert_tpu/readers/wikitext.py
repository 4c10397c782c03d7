"""Wikipedia's markup as text: its prose, without templates, tables, lists, headings, references and files.

Parsed by mwparserfromhell. The BERT paper says only this about its Wikipedia text: "we extract only the text passages
and ignore lists, tables, and headers" (Devlin et al. 2019, section 3.1).
"""

import re

import mwparserfromhell
from mwparserfromhell import nodes
from mwparserfromhell.wikicode import Wikicode

LISTS = ("li", "dt", "dd")
# Elements whose content is not prose. https://en.wikipedia.org/wiki/Help:HTML_in_wikitext
DROPPED = {
    "ref", "references", "gallery", "table", "math", "chem", "score", "timeline", "imagemap", "syntaxhighlight",
    "source", "code", "pre", "hiero", "graph", "mapframe", "maplink", "templatestyles", "ul", "ol", "dl", "inputbox",
    "categorytree", "section", "style", "div", "center",
}  # fmt: skip
# Links into these namespaces, and to the same page in another language, display no words.
INVISIBLE = re.compile(r"\s*(file|image|category|media|[a-z]{2,3}(-[a-z]+)*):", re.IGNORECASE)
SWITCH = re.compile(r"__[A-Z]+__")  # sets the layout: https://www.mediawiki.org/wiki/Help:Magic_words


def text(markup: str) -> str:
    """The paragraphs of a page, one a line."""
    parts: list[str] = []
    _prose(mwparserfromhell.parse(markup, skip_style_tags=False), parts)
    lines = (" ".join(line.split()) for line in SWITCH.sub("", "".join(parts)).split("\n"))
    return "\n".join(line for line in lines if any(map(str.isalnum, line)))


def _prose(code: Wikicode, parts: list[str]) -> None:
    """Appends the words of parsed markup to `parts`."""
    in_list = False
    for node in code.nodes:
        if in_list and isinstance(node, nodes.Text):  # a list item ends with its line
            _, newline, rest = str(node).partition("\n")
            in_list = not newline
            parts.append(newline + rest)
        elif isinstance(node, nodes.Tag) and str(node.tag).lower() in LISTS and node.wiki_markup:
            in_list = True
        elif not in_list:
            _one(node, parts)


def _one(node: nodes.Node, parts: list[str]) -> None:
    match node:
        case nodes.Text():
            parts.append(str(node))
        case nodes.Wikilink():
            if not INVISIBLE.match(str(node.title)):
                _prose(node.text if node.text is not None else node.title, parts)
        case nodes.ExternalLink():
            if node.title is not None:
                _prose(node.title, parts)
        case nodes.HTMLEntity():
            parts.append(node.normalize())
        case nodes.Tag():
            name = str(node.tag).strip().lower()
            if name == "br":
                parts.append("\n")
            elif name not in DROPPED and node.contents is not None:
                _prose(node.contents, parts)
