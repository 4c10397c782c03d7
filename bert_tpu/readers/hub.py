"""Files of data sets on the Hugging Face Hub, hf://datasets/OWNER/NAME[@REVISION]/PATH, read as streams.

Nothing is stored on disk. A file is read at the commit that its data set had when the files were listed. The token of
private and gated data sets comes from the environment variable HF_TOKEN and goes nowhere else.
https://huggingface.co/docs/huggingface_hub/guides/hf_file_system
"""

import functools
import glob
import io
import os
import re
from typing import Any, NamedTuple, cast
import urllib.parse

from bert_tpu.core import command, hub_requests

PREFIX = "hf://"
FORM = "hf://datasets/OWNER/NAME/PATH"
BLOCK_BYTES = 8 << 20  # of a request; a larger one delays the first document, a smaller one meets the Hub's rate limit
HEAD_BYTES = 1 << 16  # of the first request
NAMED_FILES = 8  # listed in an error


class Repository(NamedTuple):
    """A data set at a revision; at a commit, once that is known."""

    name: str  # OWNER/NAME
    revision: str | None  # a branch, a tag or a commit; None for the main branch

    @property
    def root(self) -> str:
        """The path of its files, as HfFileSystem takes it."""
        revision = f"@{urllib.parse.quote(self.revision, safe='')}" if self.revision else ""
        return f"datasets/{self.name}{revision}"


class File(NamedTuple):
    """A file of a data set."""

    path: str  # without a revision
    bytes: int
    content: str  # hash of its content
    commit: str  # at which it was listed


def find(pattern: str) -> list[File]:
    """The files that match, sorted by path, without the data set's README.md and files that begin with a dot.

    Raises UserError for a pattern that matches nothing and for a data set that cannot be listed.
    """
    command.require(pattern, "huggingface_hub", extra="corpus")
    repository, inside = _parse(pattern)
    commit = hub_requests.ask(pattern, lambda: _commit(repository), hub_requests.FIRST_WAITS_S)
    root = Repository(repository.name, commit).root
    matched = hub_requests.ask(pattern, lambda: _glob(f"{root}/{inside}"), hub_requests.FIRST_WAITS_S)
    files = [
        File(f"{data_set(pattern)}/{path.removeprefix(f'{root}/')}", info["size"], info["blob_id"], commit)
        for path, info in sorted(matched.items())
    ]
    if not files:
        names = hub_requests.ask(pattern, lambda: _names_near(root, inside), hub_requests.FIRST_WAITS_S)
        raise command.UserError(f"no file matches the input {pattern!r}; the data set has {names}")
    return files


def refuse_page(url: str) -> None:
    """Raises UserError for the address of a page or a file of a data set, with the path to give instead."""
    page = re.match(r"https?://(?:huggingface\.co|hf\.co)/datasets/([^/?#]+/[^/?#]+)(.*)", url)
    if not page:
        return
    name, rest = page.groups()
    file = re.match(r"/(?:resolve|blob|tree|raw)/([^/?#]+)/([^?#]+)", rest)
    revision = f"@{file[1]}" if file and file[1] != "main" else ""
    inside = urllib.parse.unquote(file[2]) if file else "**/*.parquet"
    inside = f"{inside.rstrip('/')}/*.parquet" if file and rest.startswith("/tree/") else inside
    raise command.UserError(f"{url} is a page of the Hub: give '{PREFIX}datasets/{name}{revision}/{inside}'")


def data_set(path: str) -> str:
    """The name of a file's data set, hf://datasets/OWNER/NAME."""
    return f"{PREFIX}{Repository(_parse(path)[0].name, None).root}"


def open_file(path: str, commit: str, size: int) -> io.BufferedReader:
    """Opens a file that `find` listed. Its content comes in blocks when they are needed."""
    repository, inside = _parse(path)
    return io.BufferedReader(_Remote(path, f"{Repository(repository.name, commit).root}/{inside}", size), BLOCK_BYTES)


class _Remote(io.RawIOBase):
    """A file on the Hub. Each read is a request."""

    def __init__(self, name: str, path: str, size: int):
        self._name, self._size, self._place = name, size, 0
        open_remote = functools.partial(
            hub_requests.files().open, path, block_size=BLOCK_BYTES, cache_type="none", size=size
        )
        self._file = hub_requests.ask(name, open_remote)

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to a place and returns it."""
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed wants any buffer
        """Fills the buffer, except at the end of the file; returns the number of bytes."""
        most = len(buffer) if self._place else HEAD_BYTES  # enough to find the kind of a file
        wanted = max(min(most, len(buffer), self._size - self._place), 0)
        if wanted:
            buffer[:wanted] = hub_requests.ask(self._name, lambda: self._request(wanted))
            self._place += wanted
        return wanted

    def _request(self, wanted: int) -> bytes:
        self._file.seek(self._place)
        block = self._file.read(wanted)
        if len(block) != wanted:
            raise ConnectionError(f"{len(block):,} bytes came instead of {wanted:,}")
        return block


def _parse(path: str) -> tuple[Repository, str]:
    """(data set, path in it). Raises UserError for another form."""
    # Branches of the Hub's own, such as refs/convert/parquet, have slashes.
    form = r"hf://datasets/([^/@]+/[^/@]+)(?:@(refs/(?:convert|pr)/[^/]+|[^/]+))?/(.+)"
    match = re.fullmatch(form, path)
    if not match:
        raise command.UserError(
            f"{path} is not of the form {FORM}; for all Parquet files write {FORM[:-4]}**/*.parquet"
        )
    name, revision, inside = match.groups()
    folders = inside.split("/")
    if any("**" in folder and folder != "**" for folder in folders) or {"", ".", ".."} & set(folders[:-1]):
        raise command.UserError(f"{path}: between two / must be a name, or ** for any folders, as in data/**/*.parquet")
    return Repository(name, urllib.parse.unquote(revision) if revision else None), inside


def _commit(repository: Repository) -> str:
    """The commit of a data set at its revision."""
    import huggingface_hub

    files = hub_requests.files()
    api = huggingface_hub.HfApi(endpoint=files.endpoint, token=files.token)
    commit = api.dataset_info(repository.name, revision=repository.revision).sha
    if not isinstance(commit, str):
        raise ConnectionError("the answer names no commit")
    return commit


def _glob(path: str) -> dict[str, dict[str, Any]]:
    """The files that match by their paths, with what the Hub says of them."""
    from huggingface_hub import errors

    files = hub_requests.files()
    try:
        # First as a name, which may have the letters of a glob. Not isfile(), which is False also when the Hub is down.
        matched = {path: files.info(path)}
    except (FileNotFoundError, errors.EntryNotFoundError):
        matched = cast("dict[str, dict[str, Any]]", files.glob(path, detail=True)) if glob.has_magic(path) else {}
    return {name: info for name, info in matched.items() if info["type"] == "file" and not _is_about_the_data(name)}


def _is_about_the_data(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name == "README.md" or name.startswith(".")


def _names_near(root: str, inside: str) -> str:
    """The first names in the deepest folder of the data set on the way to `inside`."""
    from huggingface_hub import errors

    while True:
        try:
            listed = [str(name) for name in hub_requests.files().ls(f"{root}/{inside}".rstrip("/"), detail=False)]
        except (FileNotFoundError, errors.EntryNotFoundError):
            if not inside:
                return "no files"
            inside = inside.rpartition("/")[0]
            continue
        names = [name.removeprefix(f"{root}/") for name in sorted(listed) if not _is_about_the_data(name)]
        more = f" and {len(names) - NAMED_FILES:,} more" if len(names) > NAMED_FILES else ""
        return ", ".join(names[:NAMED_FILES]) + more if names else "no files"
