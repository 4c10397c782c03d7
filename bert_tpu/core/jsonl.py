"""A run's files of JSON lines, each about one step: metrics.jsonl and samples.jsonl."""

from collections.abc import Iterable, Iterator
import json
import os
from typing import Any

from etils import epath

from bert_tpu.core import command, json_files, storage


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The lines in order; none if there is no file. Leaves out a last line that was cut when its run was killed.

    Raises UserError for any other line that is not a JSON object with a `step`.
    """
    return [line for _, line in _whole_lines(epath.Path(path))]


def append(path: str | os.PathLike, texts: Iterable[str]) -> None:
    """Appends `texts` to the file, all or none. Each is a line and its line end."""
    size, text = os.path.getsize(path) if os.path.exists(path) else 0, "".join(texts)

    def write() -> None:
        with epath.Path(path).open("a") as file:
            file.write(text)

    if storage.is_bucket(path):  # which writes objects whole
        storage.in_bucket(path, write)
        return
    try:
        write()
    except OSError:
        if os.path.exists(path):
            os.truncate(path, size)
        raise


def drop_after(path: str | os.PathLike, step: int) -> None:
    """Removes the lines after `step`, which were written by a killed run."""
    file = epath.Path(path)
    if not file.exists():
        return
    texts = [text for text, line in _whole_lines(file) if line["step"] <= step]
    storage.write_text(file, "".join(text + "\n" for text in texts))


def _whole_lines(path: epath.Path) -> Iterator[tuple[str, dict[str, Any]]]:
    texts = path.read_bytes().decode(errors="replace").splitlines() if path.exists() else []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if not json_files.misfit(line, {"step": int}):
            yield text, line
        elif number < len(texts):
            raise command.UserError(f"{path} is damaged at line {number:,}: restore the file, or delete that line")
