"""Brackets in Wikipedia's markup: {{templates}}, {{{parameters}}} and [[links]], each within others, closed or not."""

import re

from bert_tpu.wikitext import namespaces, templates
from bert_tpu.wikitext.tags import APART, REMOVED

# Brackets, bars, blank lines, and line ends before a heading.
TOKEN = re.compile(r"\{\{+|\}\}+|\[\[|\]\]|\||\n(?=[ \t]*\n)|\n(?===[^\n]+==[ \t]*(?:\n|$))")
DEPTH = 100  # of brackets within brackets: opening ones within so many are dropped


class _Open:
    """Brackets that are not yet closed: a link, or a template or parameter."""

    def __init__(self, count: int, is_link: bool) -> None:
        self.count, self.is_link = count, is_link
        self.parts: list[str] = []  # between bars
        self.last: list[str] = []  # pieces of the part that is not ended

    def ended(self) -> list[str]:
        """Returns all parts."""
        return [*self.parts, "".join(self.last)]


def without_brackets(markup: str) -> str:
    """Returns markup with templates, parameters and links as MediaWiki shows them, or with gaps."""
    top: list[str] = []
    stack: list[_Open] = []
    start = 0
    for token in TOKEN.finditer(markup):
        pieces = stack[-1].last if stack else top
        pieces.append(markup[start : token.start()])
        start = token.end()
        match token[0][0]:
            case "|":
                if stack:
                    stack[-1].parts.append("".join(pieces))
                    pieces.clear()
                else:
                    pieces.append("|")
            case "{" | "[" as bracket:
                if len(stack) < DEPTH:
                    stack.append(_Open(len(token[0]), bracket == "["))
            case "]":
                if stack and stack[-1].is_link:
                    _append(stack, top, _link(stack.pop().ended()))
            case "}":
                _close_templates(stack, top, len(token[0]))
            case "\n":
                # A link does not go on after a blank line, nor anything after a heading. What is open, nothing closes.
                while stack and (stack[-1].is_link or markup.startswith("=", start)):
                    _append(stack, top, _unclosed(stack.pop()))
                _append(stack, top, "\n")
    (stack[-1].last if stack else top).append(markup[start:])
    while stack:
        _append(stack, top, _unclosed(stack.pop()))
    return "".join(top)


def _append(stack: list[_Open], top: list[str], words: str) -> None:
    (stack[-1].last if stack else top).append(words)


def _close_templates(stack: list[_Open], top: list[str], count: int) -> None:
    """Closes templates and parameters with `count` closing braces. Those that close nothing are dropped."""
    while count >= 2 and any(not frame.is_link for frame in stack):
        while stack[-1].is_link:
            _append(stack, top, _unclosed(stack.pop()))
        frame = stack.pop()
        used = min(count, frame.count, 3)
        parts = frame.ended()
        words = templates.text(parts) if used == 2 else (parts[1] if len(parts) > 1 else "")
        count -= used
        if frame.count - used >= 2:
            stack.append(_Open(frame.count - used, is_link=False))
        elif frame.count > used:
            _append(stack, top, "{")
        _append(stack, top, words)
    if count == 1:
        _append(stack, top, "}")


def _link(parts: list[str]) -> str:
    """Returns the words that a link shows."""
    parts = "|".join(parts).split("|")  # {{!}} is a bar here, which it is not in a template
    target = parts[0].strip()
    if "\n" in target:
        return "|".join(parts)
    if namespaces.is_hidden(target):  # not with a colon in front
        return REMOVED
    label = "|".join(parts[1:])
    if label.strip():
        return f"{APART}{label}{APART}" if "'" in (label[0], label[-1]) else label
    target = target.lstrip(":").replace("_", " ").strip()
    if len(parts) == 1:
        return target.strip("/").removeprefix("#")
    # An empty label is for the title without namespace and brackets. https://en.wikipedia.org/wiki/Help:Pipe_trick
    target = target.partition(":")[2] or target
    shorter = re.sub(r"\s*(?:\([^()]*\)|（[^（）]*）)\s*$", "", target)
    return (shorter if shorter != target else target.split(", ")[0]).strip()


def _unclosed(frame: _Open) -> str:
    """Returns the words within brackets that nothing closes."""
    parts = frame.ended()
    words = "|".join(parts)
    first, newline, rest = words.partition("\n")
    if frame.is_link:
        if namespaces.is_hidden(parts[0].strip()):
            return newline + rest
        link, bracket, after = words.partition("]")
        if bracket and "\n" not in link:
            return _link(link.split("|")) + after
        return words.partition("|")[2] if len(parts) > 1 and "\n" not in parts[0] else words
    inside, brace, after = first.partition("}")
    if brace:
        first = templates.text(inside.split("|")) + after
    else:  # a sentence may begin in the last part
        last = first.rpartition("|")[2]
        first = last if "|" in first and "=" not in last and " " in last.strip() else ""
    rows = (row for row in rest.split("\n") if not row.lstrip().startswith(("|", "}")))
    return first + newline + "\n".join(rows)
