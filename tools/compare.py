"""Fine-tunes two models in the same way and prints by how much the second is better.

bert-tpu compare MODEL_A MODEL_B --tasks rte mrpc --workdir W --config.data.dir=GLUE [--seeds 5]

A task is one of GLUE's or a config, such as pairs. --config.KEY=VALUE changes a key of the config for
all tasks. Both models train with the same seeds, on the same rows in the same order. For the interval of a difference
rows are drawn again with replacement, and the seeds' part is Student's t.
"""

from collections.abc import Iterator
import pathlib
import sys
from typing import NamedTuple

from bert_tpu.core import command

with command.imports():
    import numpy as np

    from bert_tpu.configs import glue
    from bert_tpu.core import config, storage
    from bert_tpu.finetune import evaluation, finetuning, heads, sweep
    from bert_tpu.tasks import metrics
    from bert_tpu.tasks.task import Task


def main() -> None:
    """Fine-tunes both models on each task and prints a line for each score."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("models", nargs=2, metavar="MODEL", help="a Hugging Face directory or a workdir")
    parser.add_argument("--tasks", nargs="+", required=True, metavar="TASK", help="tasks of GLUE, or config files")
    parser.add_argument(
        "--workdir", required=True, type=storage.local_path, help="gets a folder for each task and model"
    )
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds for each model (default: 5)")
    changes, rest = config.split_argv(sys.argv[1:])
    args = parser.parse_args(rest)
    if args.seeds < 2:
        raise command.UserError(f"--seeds {args.seeds}: give 2 or more, or the spread of seeds is unknown")
    config.refuse_changes(changes, {"seeds": "give --seeds N", "init_from": "name the two models without an option"})
    models = [(model, sweep.start_sha256(model)) for model in args.models]
    runs = [list(_runs(task, models, args.seeds, args.workdir, changes)) for task in args.tasks]
    print(f"A: {args.models[0]}\nB: {args.models[1]}\n")
    print("| task | split | score | A | B | B - A | 95% |\n| --- | --- | --- | --- | --- | --- | --- |")
    for task, pair in zip(args.tasks, runs, strict=True):
        results = [run.done() for run in pair]
        for line in differences(task, [run.task for run in pair], results):
            print(line, flush=True)


class Run(NamedTuple):
    """A fine-tuning of one model."""

    name: str  # of the config
    workdir: pathlib.Path
    words: list[str]  # changes of the config
    task: Task  # as its files are now
    start: str  # hash of the model, as it is now

    def done(self) -> sweep.Result:
        """Runs the fine-tuning, unless it is finished, and returns its result.

        Raises UserError if the finished one was trained on other rows, or from other weights, than there are now.
        """
        result = sweep.tune(self.name, self.workdir, self.words)
        finetuning.check_start(self.start, result.config, self.workdir)
        finetuning.check_rows(self.task, result.config, self.workdir)
        return result


def _runs(
    task: str, models: list[tuple[str, str]], seeds: int, workdir: pathlib.Path, changes: list[str]
) -> Iterator[Run]:
    """Yields the Runs of both models. Raises UserError for a wrong task, before any model trains.

    task: of GLUE, or a config file.
    models: both models' directories, with the hash of each.
    seeds: number of seeds.
    workdir: gets a folder for each Run.
    changes: words --config.KEY=VALUE.
    """
    name = f"glue:{task}" if task in glue.TASKS else task
    stem = name.partition(":")[0]
    if stem not in config.names() and not pathlib.Path(stem).is_file():
        raise command.UserError(f"{task} is neither a config nor one of GLUE's tasks, {', '.join(glue.TASKS)}")
    folder = name.removeprefix("configs/").replace("/", "-").replace(":", "-").replace(".py", "")
    for side, (model, start) in zip("AB", models, strict=True):
        words = [*changes, f"--config.init_from={model}", sweep.seeds_flag(seeds)]
        labelled_task = finetuning.check(config.load_changed(name, words, config.TUNING))
        if not labelled_task.eval_splits:
            raise command.UserError(f"{task} has no labelled split except train to be judged on: check --config.data")
        yield Run(name, workdir / folder / side, words, labelled_task, start)


def differences(name: str, tasks: list[Task], pair: list[sweep.Result]) -> Iterator[str]:
    """Yields a line of the table for each score of a task.

    name: of the task.
    tasks: the task as each of the two models' vocabularies encodes it.
    pair: the results of the two models.
    """
    for split in tasks[0].eval_splits:
        outputs = [np.load(result.workdir / evaluation.PREDICTIONS / f"{split}.npy") for result in pair]
        if tasks[0].head in heads.TOKEN_HEADS:  # each vocabulary has its own tokens; the drawn rows are the same
            by_model = [task.bootstrap(split, output) for task, output in zip(tasks, outputs, strict=True)]
            draws = {score: np.concatenate([scores[score] for scores in by_model], axis=1) for score in by_model[0]}
        else:
            draws = tasks[0].bootstrap(split, np.concatenate(outputs))
        for score, values in draws.items():
            means = [result.summary[split][score]["mean"] for result in pair]
            low, high = metrics.interval(_of_pairs(values))
            cells = *(f"{mean:.4f}" for mean in means), f"{means[1] - means[0]:+.4f}", f"{low:+.4f} .. {high:+.4f}"
            yield f"| {name} | {split} | {score} | {' | '.join(cells)} |"


def _of_pairs(scores: np.ndarray) -> np.ndarray:
    """Returns the mean of B's scores less A's in each draw of rows, with the chance of the seeds added, [draws].

    That is Student's t, with the seeds' own spread: so few seeds, drawn again, would differ too little. Of two equal
    models, of which only the seeds vary, 5 seeds that are drawn again would call 13% different, and 2 seeds 37%.

    scores: [draws, A's seeds and then B's].
    """
    a, b = np.split(scores, 2, axis=1)
    seeds = a.shape[1]
    error = (b - a).std(axis=1, ddof=1) / seeds**0.5
    return (b - a).mean(axis=1) + error * np.random.default_rng(0).standard_t(seeds - 1, len(a))


if __name__ == "__main__":
    command.run(main)
