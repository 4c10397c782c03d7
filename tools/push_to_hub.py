"""Uploads an exported directory to the Hugging Face Hub.

python -m tools.push_to_hub --model DIR --repo USER/NAME [--push]

Without --push it only lists the files and does not use the network. The token is read from the environment variable
HF_TOKEN alone.
"""

import os
from pathlib import Path

from bert_tpu.core import command, numerals

with command.imports():
    import huggingface_hub
    from huggingface_hub import errors, utils
    import safetensors

    from bert_tpu.core import json_files
    from bert_tpu.readers import hub_requests

NEEDED = ("config.json", "model.safetensors", "README.md", "tokenizer.json")


def main() -> None:
    """Checks the directory, lists its files, and uploads them with --push."""
    parser = command.Parser(description=__doc__)
    parser.add_argument("--model", required=True, help="directory written by tools.export_pytorch")
    parser.add_argument("--repo", required=True, help="USER/NAME on the Hub; created if it does not exist")
    parser.add_argument("--public", action="store_true", help="a new repository is public (default: private)")
    parser.add_argument("--push", action="store_true", help="upload (default: only list the files)")
    args = parser.parse_args()
    paths = check(Path(args.model), args.repo)
    total = sum(path.stat().st_size for path in paths)
    for path in paths:
        print(f"{path.stat().st_size / 1e6:10.2f} MB  {path.relative_to(args.model)}")
    if not args.push:
        print(
            f"{numerals.count(len(paths), 'file')}, {total / 1e6:.2f} MB, would go to {args.repo}; --push uploads them"
        )
        return
    token = hub_requests.token()
    if not token:
        raise command.UserError("HF_TOKEN is not set: set it to a token that may write")
    print(f"{upload(args.model, args.repo, token, private=not args.public)}: {numerals.count(len(paths), 'file')}")


def upload(directory: str, repo: str, token: str, *, private: bool) -> str:
    """Uploads a directory and returns the URL of the commit. Raises UserError if the Hub refuses it or is not reached.

    private: whether a new repository is private
    """
    hub = huggingface_hub.HfApi(token=token, endpoint=os.environ.get("HF_ENDPOINT"))
    try:
        hub.create_repo(repo, private=private, exist_ok=True)
        return str(hub.upload_folder(repo_id=repo, folder_path=directory).commit_url)
    # The library raises KeyError and others if a proxy answers for the Hub, and RuntimeError if a large file fails.
    except (errors.HTTPError, OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error.__cause__ or error).split())[:300] or type(error).__name__
        raise command.UserError(
            f"the Hub refused the upload or was not reached ({reason}); fix that and run the same command again"
        ) from error


def check(directory: Path, repo: str) -> list[Path]:
    """Returns the files of an export, sorted. Raises UserError if it is incomplete, or `repo` is not a Hub name."""
    missing = [name for name in NEEDED if not (directory / name).is_file()]
    if missing:
        raise command.UserError(
            f"{directory} is not an export, it has no {', no '.join(missing)}: write one with tools.export_pytorch"
        )
    try:
        with safetensors.safe_open(directory / "model.safetensors", "numpy"):  # it compares the length in the header
            pass
    except safetensors.SafetensorError as error:
        raise command.UserError(f"{directory}/model.safetensors is not sound ({error}): export it again") from None
    for name in ("config.json", "tokenizer.json"):
        json_files.read(directory / name, remedy="export the model again")
    try:
        utils.validate_repo_id(repo)
    except errors.HFValidationError as error:
        raise command.UserError(f"--repo {repo}: {str(error).splitlines()[0]}") from None
    if "/" not in repo:
        raise command.UserError(f"--repo {repo}: give USER/NAME")
    return files(directory)


def files(directory: Path) -> list[Path]:
    """Returns the files to upload, sorted: all in `directory`."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


if __name__ == "__main__":
    command.run(main)
