"""Uploads directories to the Hugging Face Hub, each as one commit to a branch of a model's repository.

A branch holds either what it began with or a whole directory, because the Hub makes one commit of all files. Large
files that arrived before a kill are not sent again: the Hub knows them by their SHA-256.
https://huggingface.co/docs/huggingface_hub/guides/upload
"""

from collections.abc import Sequence
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from bert_tpu.core import command, hub_requests

MAIN = "main"
CARD = "README.md"
OWN = ".gitattributes"  # the Hub writes it into each new repository
BEGINNINGS = {OWN, CARD, "LICENSE"}  # files that the Hub's website writes into a new repository


class Outcome(NamedTuple):
    """A branch after `Repository.push`."""

    commit: str  # at its head
    was_complete: bool  # True if the branch had the same files before
    is_card_kept: bool = False  # True if only the model card differs, and stays as it is


class Repository:
    """A model's repository on the Hub. It is created if it does not exist."""

    def __init__(self, name: str, token: str, *, is_private: bool):
        """Creates the repository. Raises UserError if the Hub refuses it or does not answer.

        name: OWNER/NAME
        token: of an account that may write
        is_private: whether a new repository is private
        """
        import huggingface_hub

        self.name = name
        self._hub = huggingface_hub.HfApi(token=token, endpoint=hub_requests.endpoint())
        self._ask(lambda: self._hub.create_repo(name, private=is_private, exist_ok=True))

    def url(self, commit: str = "") -> str:
        """Returns the address of the repository, or of a commit in it."""
        return f"{self._hub.endpoint}/{self.name}" + (f"/commit/{commit}" if commit else "")

    def heads(self) -> dict[str, str]:
        """Returns branch -> commit at its head."""
        return self._ask(self._heads)

    def check(self, directory: Path, branch: str, *, known: str) -> None:
        """Raises UserError if a `push` with the same arguments would."""
        state = self._ask(lambda: self._state(branch, directory))
        if (state.changed or state.foreign) and not (state.may_push or state.head == known):
            raise self._refusal(state, branch)

    def push(
        self, directory: Path, branch: str, *, message: str, known: str = "", replace: bool = False,
        keeps_card: bool = False,
    ) -> Outcome:  # fmt: skip
        """Makes `branch` hold exactly the files of `directory`; a new branch begins at the repository's first commit.

        message: the commit's title
        known: a commit that may be replaced if it is the branch's head; "" for none
        replace: whether any other content may be replaced
        keeps_card: whether a branch that has another model card, and nothing else that differs, stays as it is

        Raises UserError, and changes nothing, if the branch has other content.
        """

        def push_once() -> Outcome:  # it looks at the branch each time: a commit whose answer was lost is not repeated
            state = self._state(branch, directory)
            return self._push(state, directory, branch, message, replace or state.head == known, keeps_card)

        return self._ask(push_once)

    def _push(
        self, state: "_State", directory: Path, branch: str, message: str, replace: bool, keeps_card: bool
    ) -> Outcome:
        import huggingface_hub

        if not state.changed and not state.foreign:
            return Outcome(state.head, was_complete=True)
        if not (state.may_push or replace):
            if keeps_card and {*state.changed, *state.foreign} == {CARD}:
                return Outcome(state.head, was_complete=True, is_card_kept=True)
            raise self._refusal(state, branch)
        if not state.exists:
            self._hub.create_branch(self.name, branch=branch, revision=state.head, exist_ok=True)
        operations: list[Any] = [
            *(huggingface_hub.CommitOperationAdd(name, directory / name) for name in state.changed),
            *(huggingface_hub.CommitOperationDelete(name) for name in state.foreign),
        ]
        commit = self._hub.create_commit(
            self.name, operations, commit_message=message, revision=branch, parent_commit=state.head
        )
        return Outcome(str(commit.oid), was_complete=False)

    def _refusal(self, state: "_State", branch: str) -> command.UserError:
        differences = [*state.changed, *state.foreign]
        return command.UserError(
            f"{self.name} has other content in {branch} ({', '.join(differences[:3])}): give another --repo, or "
            "--replace to replace it"
        )

    def _heads(self) -> dict[str, str]:
        return {branch.name: branch.target_commit for branch in self._hub.list_repo_refs(self.name).branches}

    def _state(self, branch: str, directory: Path) -> "_State":
        heads = self._heads()
        first = self._hub.list_repo_commits(self.name, revision=MAIN)[-1].commit_id
        head = heads.get(branch, first)
        remote = {
            entry.path: entry
            for entry in self._hub.list_repo_tree(self.name, recursive=True, revision=head)
            if hasattr(entry, "blob_id")
        }
        paths = {path.relative_to(directory).as_posix(): path for path in files(directory)}
        changed = [name for name, path in paths.items() if name not in remote or not _is_equal(path, remote[name])]
        foreign = sorted(remote.keys() - paths.keys() - {OWN})
        may_push = branch not in heads or remote.keys() <= {OWN} or (head == first and remote.keys() <= BEGINNINGS)
        return _State(head, branch in heads, changed, foreign, may_push)

    def _ask(self, request: Any) -> Any:
        return hub_requests.ask(self.name, request, advice=self._advice)

    def _advice(self, error: BaseException) -> str:
        """Returns why an upload is refused, and what to do about it; "" if the reason may pass by itself."""
        from huggingface_hub import errors

        status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
        reason = hub_requests.short_reason(error)
        if isinstance(error, errors.OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set; unset it to upload"
        if status == 401:
            return "the Hub does not accept this HF_TOKEN; set a valid token"
        if status == 403:
            return f"HF_TOKEN may not write there ({reason}); give a token that may write, or another --repo"
        if status == 412:
            return "another program changed the branch during the upload; run the same command again"
        if 400 <= status < 500 and status not in (408, 429):
            return f"the Hub refuses it with status {status} ({reason}); fix that and run the same command again"
        if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):
            return f"the Hub refuses the files ({reason}); fix that and run the same command again"
        return ""


class _State(NamedTuple):
    """A branch, compared with a directory."""

    head: str  # commit of the branch; of a branch that does not exist, the commit to begin it with
    exists: bool
    changed: Sequence[str]  # files of the directory that the branch has not, or has with other content
    foreign: Sequence[str]  # files of the branch that the directory has not
    may_push: bool  # True if nothing but a new repository's own files would be replaced


def files(directory: Path) -> list[Path]:
    """Returns the files to upload, sorted: all in `directory`."""
    return sorted(path for path in directory.rglob("*") if path.is_file())


def _is_equal(path: Path, entry: Any) -> bool:
    """Returns whether a file has the content of the Hub's `entry`, which has a large file's SHA-256.

    entry: a huggingface_hub.RepoFile
    """
    size = path.stat().st_size
    if size != entry.size:
        return False
    with path.open("rb") as file:
        if entry.lfs:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.lfs.sha256
        return hashlib.sha1(b"blob %d\0" % size + file.read()).hexdigest() == entry.blob_id  # as git computes it
