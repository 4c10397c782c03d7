"""Splits a line into sentences as nupunkt's English model does, asking it only where an end is in doubt.

Most ends are certain by nupunkt's own rules, and the rest of the line does not change them. At such an end a mark,
perhaps a closing quotation mark, one space and a capitalized word follow

- a word of two or more letters with a full stop, if nupunkt knows neither an abbreviation nor a collocation of it;
- a number with a full stop, if nupunkt has no collocation of numbers with the next word;
- a word or number with a question or exclamation mark.

Nothing that nupunkt looks at crosses such an end, so the parts between them are split one by one, and a part without
another mark before a space or a sign is a sentence. The result is nupunkt's, in half of its time.
"""

from collections.abc import Callable
import functools
import re

END = re.compile('([.?!])(["\u201d]?) (?=(["(]?[A-Z][A-Za-z\'\u2019-]*),? )')
# No other mark can end a sentence within a part. Where only a quotation mark follows, there is nothing to split.
DOUBT = re.compile(r"[.?!\u2026](?![\"\u201d]\Z)\W")
OPENS = ('"', "(")  # single characters that nupunkt separates from the word after them
HEAD = 13  # characters; a number or letter with a full stop that begins a line may be the mark of a list


@functools.cache
def splitter() -> Callable[[str], list[str]]:
    """Returns the function that splits a line, which contains no newline. Loads the model, once a process."""
    import nupunkt  # here, because only the processes that split need it

    tokenizer = nupunkt.load("default")
    collocations = tokenizer.parameters.collocations
    doubtful = frozenset(tokenizer.abbreviations).union(first for first, _ in collocations)
    after_number = frozenset(second for first, second in collocations if first == "##number##")

    def is_sure(word: str, end: re.Match[str]) -> bool:
        mark, quote, following = end.groups()
        if word[:1] in OPENS:
            word = word[1:]
        if mark != ".":
            return word.isalnum()
        if not word.isascii():
            return False
        if word.isdigit():
            return not quote and following.isalpha() and following.lower() not in after_number
        return word.isalpha() and len(word) > 1 and word.lower() not in doubtful

    def split(line: str) -> list[str]:
        parts, start = [], 0
        for end in END.finditer(line, HEAD):
            if is_sure(line[line.rfind(" ", 0, end.start()) + 1 : end.start()], end):
                parts.append(line[start : end.end() - 1])
                start = end.end()
        parts.append(line[start:])
        found: list[str] = []
        for part in parts:
            if DOUBT.search(part):
                found += tokenizer.tokenize(part)
            else:
                found.append(part.rstrip())
        return [part for part in found if part]

    return split
