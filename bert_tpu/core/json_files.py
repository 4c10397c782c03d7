"""Reads small JSON files that this project wrote. Checks their shape, because a file may be cut, edited or foreign."""

import json
import os
from typing import Any

from etils import epath

from bert_tpu.core import command


def read(path: str | os.PathLike, shape: Any = dict, *, remedy: str = "restore it or delete it") -> Any:
    """The content of a JSON file. Raises UserError if it is damaged: no JSON, or JSON of another shape.

    path: of the file, which must exist
    shape: what the content must be, as `misfit` takes it
    remedy: the end of the error's sentence
    """
    file = epath.Path(path)
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise command.UserError(f"{file} is damaged or of another kind ({error}): {remedy}") from None
    if place := misfit(content, shape):
        raise command.UserError(
            f"{file} is damaged or of another kind ({place} is missing or of another type): {remedy}"
        )
    return content


def read_if_any(path: str | os.PathLike, shape: Any = dict) -> dict[str, Any]:
    """The content of a JSON file, a dictionary; {} if there is no file. Raises UserError as `read` does."""
    return read(path, shape) if epath.Path(path).exists() else {}


def misfit(value: Any, shape: Any, place: str = "the content") -> str:
    """The place of the first value that does not have its shape, as dotted keys; "" if all have.

    shape: a type; float is any number, and object anything. [shape]: a list of such values. {str: shape}: a dictionary
        of such values. {"key": shape, ...}: a dictionary with at least these keys
    place: of `value`
    """
    if isinstance(shape, type):
        types = (int, float) if shape is float else shape
        is_sound = isinstance(value, types) and not (isinstance(value, bool) and shape in (int, float))
        return "" if is_sound else place
    if not isinstance(value, type(shape)):
        return place
    inside = "" if place == "the content" else f"{place}."
    if isinstance(shape, list):
        children = ((f"{inside}{number}", item, shape[0]) for number, item in enumerate(value))
    elif str in shape:
        children = ((f"{inside}{key}", item, shape[str]) for key, item in value.items())
    else:
        if missing := [key for key in shape if key not in value]:
            return f"{inside}{missing[0]}"
        children = ((f"{inside}{key}", value[key], inner) for key, inner in shape.items())
    return next((found for where, item, inner in children if (found := misfit(item, inner, where))), "")
