"""Scores of a model by EuroEval, which fine-tunes encoders on tasks of European languages, for bert-tpu evaluate."""

from collections.abc import Sequence
import contextlib
import difflib
import importlib.metadata
import os
from pathlib import Path
from typing import Any

from bert_tpu.core import command, json_files

SHORTEST = 128  # positions of a model; EuroEval takes a smaller number for a mistake
# Of EuroEval 16: it sets an option that transformers 5 does not have, and loses labels with the strings of pandas 3.
TRIED, NEWEST = 16, {"transformers": 4, "pandas": 2}
ENVIRONMENT = "give it an environment of its own, pip install WHEEL_OF_BERT_TPU euroeval 'transformers<5' 'pandas<3'"
CUSTOM = Path("custom_datasets.py")  # EuroEval's own file of own data sets


def version() -> str:
    """The library's name and release, for the record."""
    return f"EuroEval {importlib.metadata.version('euroeval')}"


def check(model: Path) -> None:
    """Raises UserError for a model that EuroEval cannot run, or with a transformers that it cannot use."""
    positions = json_files.read(model / "config.json", {"max_position_embeddings": int})["max_position_embeddings"]
    if positions < SHORTEST:
        raise command.UserError(f"{model} has {positions} positions: EuroEval takes models with {SHORTEST} or more")
    euroeval = importlib.metadata.version("euroeval")
    for package, highest in NEWEST.items():
        release = importlib.metadata.version(package)
        if _major(euroeval) <= TRIED and _major(release) > highest:
            raise command.UserError(
                f"EuroEval {euroeval} does not fine-tune with {package} {release}: {ENVIRONMENT}, and run this command "
                "there"
            )


def _major(release: str) -> int:
    return int(release.partition(".")[0])


def find(names: Sequence[str]) -> list[str]:
    """Returns EuroEval's data sets by its own names of data sets or tasks. Raises UserError for another name."""
    os.environ.setdefault("USE_TF", "0")  # transformers 4 would import TensorFlow, which is here, and its Keras fails
    from euroeval import dataset_configs

    by_name = dataset_configs.get_all_dataset_configs(custom_datasets_file=CUSTOM)
    by_task: dict[str, list[str]] = {}
    for name, config in by_name.items():
        by_task.setdefault(config.task.name, []).append(name)
    found: dict[str, None] = {}
    for name in names:
        if name not in by_name and name not in by_task:
            near = difflib.get_close_matches(name, [*by_name, *by_task], n=1)
            hint = f"did you mean {near[0]}?" if near else f"its tasks are {', '.join(sorted(by_task))}"
            raise command.UserError(f"EuroEval has no data set or task {name!r}: {hint}")
        found |= dict.fromkeys([name] if name in by_name else by_task[name])
    return list(found)


def run(model: Path, tasks: Sequence[str], out: Path, iterations: int) -> dict[str, dict[str, float]]:
    """Returns data set -> metric -> score in per cent. Data sets that `out` has are not computed again.

    model: an exported directory
    tasks: as `find` returns them
    out: folder of EuroEval's own results, which must be of this model alone
    iterations: fine-tunings of each data set; EuroEval's own number is 10
    Raises UserError if a data set cannot be evaluated.
    """
    import euroeval

    custom = CUSTOM.absolute()
    scores: dict[str, dict[str, float]] = {}
    with contextlib.chdir(out):  # where EuroEval writes
        benchmarker: Any = euroeval.Benchmarker(
            num_iterations=iterations, cache_dir=str(Path("cache").absolute()), custom_datasets_file=custom
        )
        for name in tasks:
            try:
                benchmarker.benchmark(model=str(model), dataset=name, raise_errors=True)
            except Exception as error:  # each kind of task and of missing data raises its own
                reason = " ".join(str(error).split())[:300]
                raise command.UserError(
                    f"EuroEval cannot evaluate {name} ({reason}): its data come from the Hub, or from what --out has "
                    "read before; finished data sets are kept"
                ) from error
        for result in benchmarker.benchmark_results:
            if result.dataset in tasks:
                total = result.results["total"]
                scores[result.dataset] = {key: value for key, value in total.items() if not key.endswith("_se")}
    return {name: scores[name] for name in tasks}
