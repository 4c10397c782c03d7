"""Two models fine-tuned alike, and by how much the second is better.

python -m tools.compare MODEL_A MODEL_B --tasks rte mrpc --workdir W --config.data.dir=GLUE [--seeds 5]

A task is one of GLUE's or a config, such as configs/pairs.py. Both models train with the same seeds, on the same rows
in the same order. The interval of the difference is that of rows and of seeds drawn again with replacement.
"""

import argparse
import pathlib
import sys

import numpy as np

from bert_tpu import command, config, finetune, judge, suite
from bert_tpu.tasks import scores
from configs import glue


def main():
    """Fine-tunes both on each task and prints a line for each score."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs=2, metavar="MODEL", help="a Hugging Face directory or a workdir")
    parser.add_argument("--tasks", nargs="+", required=True, metavar="TASK")
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="for a folder a task and model")
    parser.add_argument("--seeds", type=int, default=5, help="how many (5)")
    changes, rest = config.divide(sys.argv[1:])
    args = parser.parse_args(rest)
    if args.seeds < 2:
        raise command.UserError(f"--seeds {args.seeds}: how far seeds differ takes 2 or more")
    print(f"A: {args.models[0]}\nB: {args.models[1]}\n")
    print("| task | split | score | A | B | B - A | 95% |\n| --- | --- | --- | --- | --- | --- | --- |")
    for task in args.tasks:
        name = f"configs/glue.py:{task}" if task in glue.TASKS else task
        folder = pathlib.Path(name.removeprefix("configs/").replace("/", "-").replace(":", "-").replace(".py", ""))
        seeds = f"--config.seeds={','.join(map(str, range(args.seeds)))}"
        pair = [
            suite.tune(name, args.workdir / folder / side, [f"--config.init_from={model}", seeds, *changes])
            for side, model in zip("AB", args.models, strict=True)
        ]
        words = [f"--config.init_from={args.models[0]}", seeds, *changes]
        for line in differences(task, finetune.open(config.changed(name, words)).task, pair):
            print(line, flush=True)


def differences(name, task, pair):
    """A line for each score of a task that both results of `pair` have."""
    a, b = pair
    for split in task.judged:
        outputs = np.concatenate([np.load(of.workdir / judge.PREDICTIONS / f"{split}.npy") for of in pair])
        for score, drawn in task.draws(split, outputs).items():
            means = [of.summary[split][score]["mean"] for of in (a, b)]
            low, high = scores.interval(_of_pairs(drawn))
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
