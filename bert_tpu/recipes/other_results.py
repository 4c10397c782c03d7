"""Takes over results of runs that were trained in another OUT, as on another machine or a disk that is gone."""

from collections.abc import Iterable
import json
import pathlib
from typing import Any

from bert_tpu.core import command, json_files, locks
from bert_tpu.recipes import runs

# Of a line of results.jsonl: all that the tables and the estimate of the time left read.
SHAPE = {
    "identity": str, "seed": int, "flops": float, "seconds": float, "step_seconds": float, "at_once": int,
    "epochs": float, "code": str, "skipped_steps": int, "lengths": {str: dict}, "workdir": str,
}  # fmt: skip


def read(files: Iterable[pathlib.Path]) -> dict[str, runs.Result]:
    """Returns the results in some results.jsonl, by identity.

    Raises UserError for a file that is missing or has a line of another kind.
    """
    return {line["identity"]: line for file in files for line in _read(file)}


def take_over(files: Iterable[pathlib.Path], out: pathlib.Path) -> int:
    """Writes the runs of some results.jsonl that `out` lacks as finished ones; returns how many lines it took.

    They have no weights. Errors are those of `read`.
    """
    results = read(files)
    out.mkdir(parents=True, exist_ok=True)
    with locks.hold(out / ".taking", wait=True):  # other starts may take over others of the same seeds
        found = runs.finished(out)
        by_folder: dict[str, dict[str, runs.Result]] = {}
        for line in results.values():
            if line["identity"] not in found:
                by_folder.setdefault(pathlib.PurePosixPath(line["workdir"]).name, {})[line["identity"]] = line
        for name, new in by_folder.items():
            earlier = {identity: line for identity, line in found.items() if line["workdir"] == f"{runs.FOLDER}/{name}"}
            runs.write_results(out / runs.FOLDER / name, (earlier | new).values())
    return sum(map(len, by_folder.values()))


def _read(file: pathlib.Path) -> list[dict[str, Any]]:
    if not file.is_file():
        raise command.UserError(f"there is no file {file}: give the results.jsonl of another --out")
    lines = []
    for number, text in enumerate(file.read_bytes().decode(errors="replace").splitlines(), 1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        place = json_files.misfit(line, SHAPE)
        if not place and not all(runs.MLM_LOSS in values for values in line["lengths"].values()):
            place = runs.MLM_LOSS
        if place:
            raise command.UserError(
                f"{file}, line {number:,}: {place} is missing or of another type: give a results.jsonl as "
                "compare-recipes wrote it"
            )
        lines.append(line)
    return lines
