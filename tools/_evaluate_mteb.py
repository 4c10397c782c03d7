"""Scores of a model by mteb, the library of the Massive Text Embedding Benchmark, for bert-tpu evaluate."""

from collections.abc import Sequence
import importlib.metadata
from pathlib import Path
from typing import Any

from bert_tpu.core import command


def version() -> str:
    """The library's name and release, for the record."""
    return f"mteb {importlib.metadata.version('mteb')}"


def find(names: Sequence[str]) -> list[Any]:
    """Returns mteb's tasks by its own names of tasks or benchmarks. Raises UserError for another name."""
    import mteb

    tasks: dict[str, Any] = {}
    for name in names:
        try:
            found = [mteb.get_task(name)]
        except KeyError as not_a_task:
            try:
                found = list(mteb.get_benchmark(name).tasks)
            except KeyError:
                reason = " ".join(str(not_a_task).strip("'\"").split())
                raise command.UserError(f"mteb has no task or benchmark {name!r} ({reason})") from None
        tasks |= {task.metadata.name: task for task in found}
    return list(tasks.values())


def run(model: Path, tasks: Sequence[Any], out: Path, batch_size: int) -> dict[str, dict[str, float]]:
    """Returns task -> "METRIC, SPLIT" -> score. Tasks that `out` has are not computed again.

    model: an exported directory; without the files of sentence-transformers its vectors are means over all tokens
    tasks: as `find` returns them
    out: folder of mteb's own results, which must be of this model alone: mteb knows no model in a directory by its name
    Raises UserError if the data of a task cannot be read.
    """
    import mteb
    import sentence_transformers

    encoder = sentence_transformers.SentenceTransformer(str(model))
    scores: dict[str, dict[str, float]] = {}
    for task in tasks:
        name = task.metadata.name
        try:
            result = mteb.evaluate(
                encoder, task, cache=mteb.ResultCache(cache_path=out), overwrite_strategy="only-missing",
                encode_kwargs={"batch_size": batch_size},
            )  # fmt: skip
        except (OSError, ValueError) as error:  # ConnectionError and datasets' own, which are one of the two
            reason = " ".join(str(error).split())[:300]
            raise command.UserError(
                f"mteb cannot evaluate {name} ({reason}): its data come from the Hub, or from HF_HOME if they were "
                "read before; finished tasks are kept"
            ) from error
        metric = task.metadata.main_score
        scores[name] = {
            f"{metric}, {split}": sum(row["main_score"] for row in rows) / len(rows)
            for split, rows in result.task_results[0].scores.items()
        }
    return scores
