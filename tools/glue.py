"""GLUE, task by task, and one table of the scores.

python -m tools.glue --model MODEL --data GLUE --workdir W [--tasks all | --tasks cola rte] [--seeds 3] [--grid]

A fine-tuning each, of all seeds at once, in W/TASK; what is finished is not done again. --config.KEY=VALUE changes a
key for all of them. W/scores.json and W/scores.md hold the scores; W/submission the predictions of the best seeds for
GLUE's server, and W/submission.zip all eleven files once they are there.
"""

import argparse
import json
import pathlib
import shutil
import sys

from bert_tpu.core import command, config, storage
from bert_tpu.finetune import evaluation, finetuned, finetuning, sweep
from bert_tpu.tasks import glue_submission, glue_table
from configs import glue


def main():
    """Fine-tunes and prints the table."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="to start from: a Hugging Face directory or a workdir")
    parser.add_argument("--data", required=True, help="a folder of the official TSVs, or tfds:glue for TFDS's")
    parser.add_argument("--workdir", required=True, type=pathlib.Path, help="for a folder a task, and the table")
    parser.add_argument("--tasks", nargs="+", default=["all"], help=f"some of {', '.join(glue.TASKS)}, or all of them")
    parser.add_argument("--seeds", type=int, default=3, help="how many (3)")
    parser.add_argument("--grid", action="store_true", help=f"the best of {len(sweep.GRID)} settings on the dev set")
    changes, rest = config.split_argv(sys.argv[1:])
    args = parser.parse_args(rest)
    if args.seeds < 1:
        raise command.UserError(f"--seeds {args.seeds}: give 1 or more")
    tasks = glue.TASKS if args.tasks == ["all"] else args.tasks
    if unknown := [task for task in tasks if task not in glue.TASKS]:
        raise command.UserError(
            f"there is no task {unknown[0]!r} in GLUE; take some of {', '.join(glue.TASKS)}, or all"
        )
    elsewhere = {"seeds": "give --seeds N", "init_from": "give --model", "data.dir": "give --data"}
    varied = ("batch_size", "optim.learning_rate", "epochs") if args.grid else ()
    config.refuse_changes(changes, elsewhere | dict.fromkeys(varied, "it is what --grid varies"))
    runs = {}
    for task in tasks:
        words = [f"--config.init_from={args.model}", f"--config.data.dir={_data(args.data, task)}"]
        runs[task] = f"configs/glue.py:{task}", args.workdir / task, [*changes, *words, sweep.seeds(args.seeds)]
    for name, directory, words in runs.values():  # a fault of the last is named before the first one trains for hours
        if args.grid or not sweep.is_done(name, directory, words):
            finetuning.look(config.load_changed(name, words))
    for task, run in runs.items():
        table = _write(args.workdir, task, (sweep.grid if args.grid else sweep.tune)(*run))
    print(table, end="")
    try:
        glue_submission.pack(args.workdir / "submission", args.workdir / "submission.zip")
        print(f"{args.workdir / 'submission.zip'} is what GLUE's server takes")
    except command.UserError as lack:
        print(f"no submission.zip: {lack}", file=sys.stderr)


def _data(named, task):
    """Where a task's data are: of TFDS the name has the task in it, before a data_dir if that is named."""
    if not named.startswith("tfds:"):
        return named
    name, mark, rest = named.partition("?")
    return f"{name}/{task}{mark}{rest}"


def _write(directory, task, result):
    """Adds a task to what earlier ones and earlier calls have left in `directory`; returns the table of all."""
    path = directory / evaluation.SCORES
    held = json.loads(path.read_text()) if path.exists() else {}
    held[task] = {
        "workdir": str(result.workdir.relative_to(directory)), "batch_size": result.config["batch_size"],
        "learning_rate": result.config["optim"]["learning_rate"], "epochs": result.config["epochs"],
        "seeds": result.seeds, "summary": result.summary,
    }  # fmt: skip
    table = glue_table.markdown({task: each["summary"] for task, each in held.items()})
    storage.write_text(path, json.dumps(held, indent=1) + "\n")
    storage.write_text(directory / "scores.md", table)
    best, _ = finetuned.choose(result.config["seeds"], result.seeds)
    for path in (result.workdir / evaluation.PREDICTIONS / f"seed{best}").glob("*.tsv"):
        if path.name in glue_submission.ROWS:
            (directory / "submission").mkdir(exist_ok=True)
            shutil.copy(path, directory / "submission")
    return table


if __name__ == "__main__":
    command.run(main)
