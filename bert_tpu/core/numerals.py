"""Writes numbers with their nouns and verbs, and durations."""

import re

CHOICE = re.compile(r"\[([^\[\]|]*)\|([^\[\]|]*)\]")


def count(number: int, noun: str, plural: str = "") -> str:
    """Returns a number with its noun: "1 row", "2,000 rows".

    noun: of one
    plural: of several, if it is more than the noun and an s
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def inflect(number: int, words: str) -> str:
    """Returns `words` with the first of each [one|several] if `number` is 1, with the second otherwise.

    words: such as "[mark is|marks are] in the text"; other brackets stay as they are
    """
    return CHOICE.sub(lambda choice: choice[1] if number == 1 else choice[2], words)


def duration(seconds: float) -> str:
    """Returns seconds as h:mm:ss."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
