"""Wikipedia's markup as text: its prose, without templates, tables, lists, headings, references and files.

Parsed by mwparserfromhell. What the BERT paper says of its Wikipedia is just this: "we extract only the text passages
and ignore lists, tables, and headers" (Devlin et al. 2019, section 3.1).
"""

import re

import mwparserfromhell
from mwparserfromhell import nodes

LISTS = ("li", "dt", "dd")
# Elements whose content is no prose. https://en.wikipedia.org/wiki/Help:HTML_in_wikitext
DROPPED = {
    "ref", "references", "gallery", "table", "math", "chem", "score", "timeline", "imagemap", "syntaxhighlight",
    "source", "code", "pre", "hiero", "graph", "mapframe", "maplink", "templatestyles", "ul", "ol", "dl", "inputbox",
    "categorytree", "section", "style", "div", "center",
}  # fmt: skip
# Links into these namespaces, and to the same page in another language, show no words.
UNSHOWN = re.compile(r"\s*(file|image|category|media|[a-z]{2,3}(-[a-z]+)*):", re.IGNORECASE)
SWITCH = re.compile(r"__[A-Z]+__")  # for the layout. https://www.mediawiki.org/wiki/Help:Magic_words


def text(markup: str) -> str:
    """The paragraphs of a page, one a line."""
    found: list[str] = []
    _prose(mwparserfromhell.parse(markup, skip_style_tags=False), found)
    lines = (" ".join(line.split()) for line in SWITCH.sub("", "".join(found)).split("\n"))
    return "\n".join(line for line in lines if any(map(str.isalnum, line)))


def _prose(code, found):
    """Adds the words of parsed markup to `found`."""
    in_list = False
    for node in code.nodes:
        if in_list and isinstance(node, nodes.Text):  # a list's item ends with its line
            _, newline, rest = str(node).partition("\n")
            in_list = not newline
            found.append(newline + rest)
        elif isinstance(node, nodes.Tag) and str(node.tag).lower() in LISTS and node.wiki_markup:
            in_list = True
        elif not in_list:
            _one(node, found)


def _one(node, found):
    match node:
        case nodes.Text():
            found.append(str(node))
        case nodes.Wikilink():
            if not UNSHOWN.match(str(node.title)):
                _prose(node.text if node.text is not None else node.title, found)
        case nodes.ExternalLink():
            if node.title is not None:
                _prose(node.title, found)
        case nodes.HTMLEntity():
            found.append(node.normalize())
        case nodes.Tag():
            name = str(node.tag).strip().lower()
            if name == "br":
                found.append("\n")
            elif name not in DROPPED and node.contents is not None:
                _prose(node.contents, found)
