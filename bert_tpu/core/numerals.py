"""Writes numbers with their nouns."""


def count(number: int, noun: str, plural: str = "") -> str:
    """Returns 1 row or 2,000 rows.

    noun: of one
    plural: of several, if it is more than the noun and an s
    """
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"
