"""Uploads an exported directory, or the kept checkpoints of a run, to the Hugging Face Hub.

bert-tpu push --model DIR --repo USER/NAME [--push]

bert-tpu push --workdir W --repo USER/NAME [--push]

With --workdir, each kept checkpoint is exported, checked, and uploaded as the revision step-N, and the newest one as
main, last. The same command completes an upload that was stopped. Without --push the command lists what would go where
and does not use the network. The token is read from the environment variable HF_TOKEN alone.
"""

import argparse
from pathlib import Path
import sys

from bert_tpu.core import command, numerals

with command.imports():
    from huggingface_hub import errors, utils
    import safetensors

    from bert_tpu.core import hub_requests, json_files, storage
    from bert_tpu.export import revisions
    from bert_tpu.huggingface import sentence_transformers, upload
    from bert_tpu.report import model_card
    from bert_tpu.training import orbax_setup, workdir

NEEDED = ("config.json", "model.safetensors", "README.md", "tokenizer.json")


def main() -> None:
    """Checks the directory or the checkpoints, lists them, and uploads them with --push."""
    parser = command.Parser(description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--model", help="directory written by bert-tpu export; it becomes main")
    source.add_argument("--workdir", help="workdir of a pretraining or fine-tuning")
    parser.add_argument("--repo", required=True, help="USER/NAME on the Hub; created if it does not exist")
    parser.add_argument("--public", action="store_true", help="a new repository is public (default: private)")
    parser.add_argument("--replace", action="store_true", help="replace other content that a revision has on the Hub")
    parser.add_argument("--seed", type=int, help="with --workdir of a fine-tuning: as for bert-tpu export")
    parser.add_argument(
        "--sentence-transformers", nargs="?", const="mean", default="", choices=sentence_transformers.MODES,
        help="with --workdir: as for bert-tpu export",
    )  # fmt: skip
    parser.add_argument("--push", action="store_true", help="upload (default: only list)")
    args = parser.parse_args()
    check_name(args.repo)
    if args.model and (args.seed is not None or args.sentence_transformers):
        raise command.UserError("--seed and --sentence-transformers choose what is exported: give them with --workdir")
    if args.workdir:
        push_run(args)
    else:
        push_model(args)


def push_model(args: argparse.Namespace) -> None:
    """Lists the files of --model, and uploads them with --push. Raises UserError for another directory."""
    directory = Path(args.model)
    paths = check(directory)
    total = sum(path.stat().st_size for path in paths)
    for path in paths:
        print(f"{path.stat().st_size / 1e6:10.2f} MB  {path.relative_to(directory)}")
    if not args.push:
        print(
            f"{numerals.count(len(paths), 'file')}, {total / 1e6:.2f} MB, would go to {args.repo}; --push uploads them"
        )
        return
    repository = upload.Repository(args.repo, token(), is_private=not args.public)
    _name_repository(directory, args.repo)
    outcome = repository.push(directory, upload.MAIN, message="Upload the model", replace=args.replace)
    done = "already there" if outcome.was_complete else numerals.count(len(paths), "file")
    print(f"{repository.url(outcome.commit)}: {done}")


def _name_repository(directory: Path, repo: str) -> None:
    """Makes the code in the model card load `repo`, where it loads the directory by its name."""
    card = directory / upload.CARD
    try:
        text = card.read_bytes().decode()
    except UnicodeDecodeError:
        raise command.UserError(f"{card} is not in UTF-8: save it in UTF-8") from None
    named = model_card.with_repository(text, directory.resolve().name, repo)
    if named != text:
        storage.write_text(card, named)


def push_run(args: argparse.Namespace) -> None:
    """Lists the checkpoints of --workdir, and uploads them with --push. Raises UserError if none is sound."""
    workdir.read_config(args.workdir)  # which refuses other folders
    steps, complaints = revisions.sound_steps(args.workdir)
    for complaint in complaints:
        print(f"warning: {complaint}", file=sys.stderr)
    if not args.push:
        for step in steps:
            print(f"{args.workdir}/checkpoints/{step} -> {args.repo}, revision {revisions.branch(step)}")
        print(f"{args.workdir}/checkpoints/{steps[-1]} -> {args.repo}, revision {upload.MAIN}")
        print(f"{numerals.count(len(steps), 'checkpoint')} would go to {args.repo}; --push exports and uploads them")
        return
    orbax_setup.quiet()
    repository = upload.Repository(args.repo, token(), is_private=not args.public)
    revisions.Pusher(
        args.workdir, repository, seed=args.seed, pool=args.sentence_transformers, replace=args.replace, tell=_tell
    ).push(steps)
    damaged = f"; {numerals.count(len(complaints), 'damaged checkpoint')} left out" if complaints else ""
    print(f"{repository.url()}: {numerals.count(len(steps), 'checkpoint')} and {upload.MAIN}{damaged}")


def _tell(line: str) -> None:
    print(line, flush=True)


def token() -> str:
    """The token of the environment. Raises UserError if there is none."""
    text = hub_requests.token()
    if not text:
        raise command.UserError("HF_TOKEN is not set: set it to a token that may write")
    return text


def check_name(repo: str) -> None:
    """Raises UserError unless `repo` is OWNER/NAME as the Hub takes it."""
    try:
        utils.validate_repo_id(repo)
    except errors.HFValidationError as error:
        raise command.UserError(f"--repo {repo}: {str(error).splitlines()[0]}") from None
    if "/" not in repo:
        raise command.UserError(f"--repo {repo}: give USER/NAME")


def check(directory: Path) -> list[Path]:
    """Returns the files of an export, sorted. Raises UserError if it is incomplete or damaged."""
    missing = [name for name in NEEDED if not (directory / name).is_file()]
    if missing:
        raise command.UserError(
            f"{directory} is not an export, it has no {', no '.join(missing)}: write one with bert-tpu export"
        )
    try:
        with safetensors.safe_open(directory / "model.safetensors", "numpy"):  # it compares the length in the header
            pass
    except safetensors.SafetensorError as error:
        raise command.UserError(f"{directory}/model.safetensors is not sound ({error}): export it again") from None
    for name in ("config.json", "tokenizer.json"):
        json_files.read(directory / name, remedy="export the model again")
    return upload.files(directory)


if __name__ == "__main__":
    command.run(main)
