"""Fine-tunes a model on the tasks of GLUE and writes one table of the scores.

bert-tpu glue --model MODEL --data GLUE --workdir W [--tasks all | --tasks cola rte] [--seeds 3] [--grid]

Each task is one fine-tuning of all seeds at once, in W/TASK. A finished fine-tuning is not repeated.
--config.KEY=VALUE changes a key of the config for all tasks. Each model needs its own W. The scores are in
W/scores.json and W/scores.md, the predictions of the best seeds for GLUE's server in W/submission. W/submission.zip has
all eleven files as soon as they are complete.
"""

import json
import pathlib
import shutil
import sys

from bert_tpu.core import command

with command.imports():
    from bert_tpu.configs import glue
    from bert_tpu.core import config, json_files, storage
    from bert_tpu.finetune import evaluation, finetuned, finetuning, sweep
    from bert_tpu.monitoring import scores_file
    from bert_tpu.tasks import glue_submission, glue_table


def main() -> None:
    """Fine-tunes on each task and prints the table."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--model", required=True, help="model to fine-tune: a Hugging Face directory or a workdir")
    parser.add_argument("--data", required=True, help="folder of the official TSV files, or tfds:glue")
    parser.add_argument(
        "--workdir", required=True, type=storage.local_path, help="gets a folder for each task, and the table"
    )
    parser.add_argument(
        "--tasks", nargs="+", default=["all"], help=f"some of {', '.join(glue.TASKS)}, or all (default)"
    )
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    parser.add_argument(
        "--grid", action="store_true", help=f"try {len(sweep.GRID)} settings and take the best on the dev set"
    )
    changes, rest = config.split_argv(sys.argv[1:])
    args = parser.parse_args(rest)
    if args.seeds < 1:
        raise command.UserError(f"--seeds {args.seeds}: give 1 or more")
    tasks = glue.TASKS if args.tasks == ["all"] else args.tasks
    if unknown := [task for task in tasks if task not in glue.TASKS]:
        raise command.UserError(
            f"there is no task {unknown[0]!r} in GLUE: give some of {', '.join(glue.TASKS)}, or all"
        )
    elsewhere = {"seeds": "give --seeds N", "init_from": "give --model", "data.dir": "give --data"}
    varied = ("batch_size", "optim.learning_rate", "epochs", "num_steps") if args.grid else ()
    config.refuse_changes(changes, elsewhere | dict.fromkeys(varied, "--grid varies it"))
    _check_model(args.workdir, args.model)
    runs = {}
    for task in tasks:
        words = [f"--config.init_from={args.model}", f"--config.data.dir={_data(args.data, task)}"]
        runs[task] = f"glue:{task}", args.workdir / task, [*changes, *words, sweep.seeds_flag(args.seeds)]
    # An error in the last task is named before the first one trains for hours.
    for name, directory, words in runs.values():
        if args.grid or not sweep.is_done(name, directory, words):
            finetuning.check(config.load_changed(name, words))
    start = sweep.start_sha256(args.model)
    for task, run in runs.items():
        result = (sweep.search_grid if args.grid else sweep.tune)(*run)
        finetuning.check_start(start, result.config, result.workdir)
        length = "num_steps" if config.load_changed(run[0], changes).num_steps else "epochs"
        table = _write(args.workdir, task, result, length)
    print(table, end="")
    try:
        glue_submission.pack(args.workdir / "submission", args.workdir / "submission.zip")
        print(f"{args.workdir / 'submission.zip'} is ready for GLUE's server")
    except command.UserError as error:
        print(f"no submission.zip: {error}", file=sys.stderr)


def _check_model(directory: pathlib.Path, model: str) -> None:
    """Raises UserError if the table in `directory` has scores of another model, so that no table mixes two.

    A model is known by its path. Tasks of older releases tell no model.
    """
    results = json_files.read_if_any(directory / scores_file.FILE, {str: {"workdir": str}})
    for task, entry in results.items():
        if (other := entry.get("model", model)) not in (model, _resolved(model)):
            raise command.UserError(f"{directory} has the scores of {other} in {task}: give another --workdir")


def _resolved(model: str) -> str:
    """Returns the whole path of a local model, and the name of another one as it is."""
    return str(pathlib.Path(model).resolve()) if pathlib.Path(model).exists() else model


def _data(source: str, task: str) -> str:
    """Returns the value of data.dir for a task. A TFDS name gets the task added, before its ?data_dir=... if any."""
    if not source.startswith("tfds:"):
        return source
    name, mark, rest = source.partition("?")
    return f"{name}/{task}{mark}{rest}"


def _write(directory: pathlib.Path, task: str, result: sweep.Result, length: str) -> str:
    """Adds a task's result to the files of earlier tasks and calls in `directory`; returns the table of all tasks.

    length: the config's key that set how long it trained, "num_steps" or "epochs"
    """
    path = directory / scores_file.FILE
    results = json_files.read_if_any(path, {str: {"summary": scores_file.SUMMARY}})
    results[task] = {
        "workdir": str(result.workdir.relative_to(directory)), "model": _resolved(result.config["init_from"]),
        "batch_size": result.config["batch_size"],
        "learning_rate": result.config["optim"]["learning_rate"], length: result.config[length],
        "seeds": result.seeds, "summary": result.summary,
    }  # fmt: skip
    table = glue_table.markdown({name: entry["summary"] for name, entry in results.items()})
    storage.write_text(path, json.dumps(results, indent=1) + "\n")
    storage.write_text(directory / "scores.md", table)
    best, _ = finetuned.choose_seed(result.config["seeds"], result.seeds)
    for path in (result.workdir / evaluation.PREDICTIONS / f"seed{best}").glob("*.tsv"):
        if path.name in glue_submission.ROWS:
            (directory / "submission").mkdir(exist_ok=True)
            shutil.copy(path, directory / "submission")
    return table


if __name__ == "__main__":
    command.run(main)
