"""Two models fine-tuned alike, and by how much the second is better.

python -m tools.compare MODEL_A MODEL_B --tasks rte mrpc --workdir W --config.data.dir=GLUE [--seeds 5]

A task is one of GLUE's or a config, such as configs/pairs.py. Both models train with the same seeds, on the same rows
in the same order. The interval of the difference is that of rows and of seeds drawn again with replacement.
"""

import argparse
import pathlib
import sys
from typing import NamedTuple

import numpy as np

from bert_tpu.core import command, config
from bert_tpu.finetune import evaluation, finetuning, heads, sweep
from bert_tpu.tasks import metrics
from bert_tpu.tasks.task import Task
from configs import glue


def main():
    """Fine-tunes both on each task and prints a line for each score."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs=2, metavar="MODEL", help="a Hugging Face directory or a workdir")
    parser.add_argument("--tasks", nargs="+", required=True, metavar="TASK")
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="for a folder a task and model")
    parser.add_argument("--seeds", type=int, default=5, help="how many (5)")
    changes, rest = config.split_argv(sys.argv[1:])
    args = parser.parse_args(rest)
    if args.seeds < 2:
        raise command.UserError(f"--seeds {args.seeds}: how far seeds differ takes 2 or more")
    config.refuse_changes(changes, {"seeds": "give --seeds N", "init_from": "the two models are given without a flag"})
    runs = [list(_runs(task, args.models, args.seeds, args.workdir, changes)) for task in args.tasks]
    print(f"A: {args.models[0]}\nB: {args.models[1]}\n")
    print("| task | split | score | A | B | B - A | 95% |\n| --- | --- | --- | --- | --- | --- | --- |")
    for task, pair in zip(args.tasks, runs, strict=True):
        results = [run.done() for run in pair]
        for line in differences(task, [run.task for run in pair], results):
            print(line, flush=True)


class Run(NamedTuple):
    """A fine-tuning of one model that is to be. task: as its config names it now."""

    name: str
    workdir: pathlib.Path
    words: list[str]
    task: Task

    def done(self) -> sweep.Result:
        """Does it, unless it has been done. UserError where that was of other rows than the task has."""
        result = sweep.tune(self.name, self.workdir, self.words)
        finetuning.check_rows(self.task, result.config, self.workdir)
        return result


def _runs(task, models, seeds, workdir, changes):
    """The Runs of both models; a fault of any task is named before the first of them trains."""
    name = f"configs/glue.py:{task}" if task in glue.TASKS else task
    if not pathlib.Path(name.partition(":")[0]).is_file():
        raise command.UserError(f"{task} is no config and none of GLUE's tasks, {', '.join(glue.TASKS)}")
    folder = name.removeprefix("configs/").replace("/", "-").replace(":", "-").replace(".py", "")
    for side, model in zip("AB", models, strict=True):
        words = [*changes, f"--config.init_from={model}", sweep.seeds(seeds)]
        read = finetuning.look(config.load_changed(name, words))
        if not read.judged:
            raise command.UserError(f"{task} has no labelled split beside train to be judged on: check --config.data")
        yield Run(name, workdir / folder / side, words, read)


def differences(name, tasks, pair):
    """A line for each score of a task, which each of the results in `pair` has as its vocabulary makes it."""
    a, b = pair
    for split in tasks[0].judged:
        outputs = [np.load(of.workdir / evaluation.PREDICTIONS / f"{split}.npy") for of in pair]
        if tasks[0].head in heads.OF_TOKENS:  # of which each has its own; the draws are the same of both
            each = [task.draws(split, said) for task, said in zip(tasks, outputs, strict=True)]
            draws = {score: np.concatenate([of[score] for of in each], axis=1) for score in each[0]}
        else:
            draws = tasks[0].draws(split, np.concatenate(outputs))
        for score, drawn in draws.items():
            means = [of.summary[split][score]["mean"] for of in (a, b)]
            low, high = metrics.interval(_of_pairs(drawn))
            cells = *(f"{mean:.4f}" for mean in means), f"{means[1] - means[0]:+.4f}", f"{low:+.4f} .. {high:+.4f}"
            yield f"| {name} | {split} | {score} | {' | '.join(cells)} |"


def _of_pairs(drawn):
    """[draws, A's seeds and then B's] -> [draws], the mean of B's less A's over seeds that are drawn again as well."""
    a, b = np.split(drawn, 2, axis=1)
    seeds = a.shape[1]
    chosen = np.random.default_rng(0).integers(seeds, size=a.shape)
    mean, again = (b - a).mean(axis=1), np.take_along_axis(b - a, chosen, axis=1).mean(axis=1)
    return mean + (again - mean) * (seeds / (seeds - 1)) ** 0.5  # which makes its variance that of a sample's mean


if __name__ == "__main__":
    command.run(main)
