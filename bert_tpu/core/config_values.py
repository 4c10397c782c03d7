"""Reads the value of a config's key from a word of the command line, as the type that the key has in the config."""

import ast
from collections.abc import Callable
import math
from typing import Any

Reader = tuple[Callable[[str], Any], str]  # raises ValueError, KeyError or SyntaxError; what to write instead


def _whole_numbers(text: str) -> tuple[int, ...]:
    numbers = ast.literal_eval(text)
    numbers = tuple(numbers) if isinstance(numbers, (tuple, list)) else (numbers,)
    if not all(type(number) is int for number in numbers):
        raise ValueError
    return numbers


def _names(text: str) -> tuple[str, ...]:
    words = tuple(word.strip(" '\"") for word in text.strip(" ()[]").split(","))
    if not all(words[:-1]):
        raise ValueError
    return tuple(word for word in words if word)  # Python's ("a",) ends in a comma


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError
    return number


READERS: dict[type, Reader] = {
    bool: (lambda text: {"true": True, "false": False}[text.lower()], "true or false"),
    int: (int, "a whole number"),
    float: (_number, "a number"),
    str: (str, "text"),
    tuple: (_whole_numbers, "whole numbers such as 128,512"),
}


def _names_or_numbers(text: str) -> tuple[Any, ...]:
    try:
        return _whole_numbers(text)
    except (ValueError, SyntaxError):
        return _names(text)


NAMES_READER: Reader = (_names, "names such as a,b, or () for none")
# For an empty tuple, which does not show its kind. What uses the key checks it.
ANY_READER: Reader = (_names_or_numbers, "names such as a,b, or numbers such as 128,512")


def reader(value: Any) -> Reader:
    """Returns how the new value of a key is read, and what to write. value: the one that the key has"""
    if not isinstance(value, tuple):
        return READERS[type(value)]
    if not value:
        return ANY_READER
    return NAMES_READER if all(isinstance(item, str) for item in value) else READERS[tuple]
