"""An exported directory to the Hugging Face Hub: python -m tools.push_to_hub --model DIR --repo USER/NAME [--push]

Without --push it says what it would upload and asks nothing of the network. The token is taken from the environment's
HF_TOKEN alone.
"""

import os
from pathlib import Path

import huggingface_hub
from huggingface_hub import errors, utils
import safetensors

from bert_tpu.core import command

NEEDED = ("config.json", "model.safetensors", "README.md", "tokenizer.json")


def main():
    """Reads the flags, looks the directory over, and uploads it if told to."""
    parser = command.Parser(description=__doc__.split("\n", 2)[2])
    parser.add_argument("--model", required=True, help="directory that tools.export_pytorch made")
    parser.add_argument("--repo", required=True, help="USER/NAME on the Hub; made if it is not there")
    parser.add_argument("--public", action="store_true", help="a repository that is made is open to all (private)")
    parser.add_argument("--push", action="store_true", help="upload (only say what would be)")
    args = parser.parse_args()
    files = look_over(Path(args.model), args.repo)
    total = sum(path.stat().st_size for path in files)
    for path in files:
        print(f"{path.stat().st_size / 1e6:10.2f} MB  {path.relative_to(args.model)}")
    if not args.push:
        print(f"{len(files)} files, {total / 1e6:.2f} MB, would go to {args.repo}; --push uploads them")
        return
    token = os.environ.get("HF_TOKEN")
    if not token:
        raise command.UserError("HF_TOKEN is not set: put a token with the right to write into the environment")
    hub = huggingface_hub.HfApi(token=token)
    try:
        hub.create_repo(args.repo, private=not args.public, exist_ok=True)
        done = hub.upload_folder(repo_id=args.repo, folder_path=args.model)
    except (errors.HfHubHTTPError, OSError) as fault:
        raise command.UserError(f"the Hub did not take it: {' '.join(str(fault).split())[:300]}") from fault
    print(f"{done.commit_url}: {len(files)} files")


def look_over(directory, repo):
    """The files of an export, sorted; UserError where it is not whole, or `repo` is no name of the Hub."""
    missing = [name for name in NEEDED if not (directory / name).is_file()]
    if missing:
        raise command.UserError(
            f"{directory} is no export, {', '.join(missing)} not there: tools.export_pytorch makes one"
        )
    try:
        with safetensors.safe_open(directory / "model.safetensors", "numpy"):  # its header tells its length
            pass
    except safetensors.SafetensorError as fault:
        raise command.UserError(f"{directory}/model.safetensors is not sound ({fault}): export it again") from None
    try:
        utils.validate_repo_id(repo)
    except errors.HFValidationError as fault:
        raise command.UserError(f"--repo {repo}: {str(fault).splitlines()[0]}") from None
    if "/" not in repo:
        raise command.UserError(f"--repo {repo}: give USER/NAME")
    return files(directory)


def files(directory) -> list[Path]:
    """Returns the files that are uploaded, sorted: all that `directory` holds."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


if __name__ == "__main__":
    command.run(main)
