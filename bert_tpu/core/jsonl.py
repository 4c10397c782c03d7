"""A run's files of JSON lines, each of one step: metrics.jsonl and samples.jsonl."""

from collections.abc import Iterable, Iterator
import json

from etils import epath

from bert_tpu.core import command, storage


def read(path) -> list[dict]:
    """The lines in their order, none where there is no file; a last one that was cut as its run was killed is left out.

    Raises UserError for any other line that is no JSON object.
    """
    return [line for _, line in _whole(epath.Path(path))]


def append(path, texts: Iterable[str]) -> None:
    """`path` has `texts`, each a line with its end, behind what it had."""
    with epath.Path(path).open("a") as file:
        file.write("".join(texts))


def drop_after(path, step) -> None:
    """What a killed run wrote after `step` is gone from `path`."""
    path = epath.Path(path)
    if not path.exists():
        return
    kept = [text for text, line in _whole(path) if line["step"] <= step]
    storage.write_text(path, "".join(text + "\n" for text in kept))


def _whole(path) -> Iterator[tuple[str, dict]]:
    texts = path.read_bytes().decode(errors="replace").splitlines() if path.exists() else []
    for number, text in enumerate(texts, 1):
        try:
            line = json.loads(text)
        except ValueError:
            line = None
        if isinstance(line, dict):
            yield text, line
        elif number < len(texts):
            raise command.UserError(f"{path} is damaged at line {number:,}: restore the file, or delete that line")
