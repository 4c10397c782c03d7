"""Finds the files of this machine that a glob names."""

import glob
import os
import sys

from bert_tpu.core import command, numerals


def find(pattern: str) -> list[str]:
    """Returns the paths of the files that match a glob (`**` for all folders below), sorted.

    pattern: `~` stands for the home folder; brackets in a name are themselves if nothing matches them as a choice.

    Raises UserError, which says what to give instead, if no file matches, and for a link that leads nowhere.
    """
    path = os.path.expanduser(pattern)
    is_other = os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    if pattern == "-" or path.startswith("/dev/") or is_other:
        raise command.UserError(
            f"the input {pattern} is a stream, and input is read more than once: write it to a file, and give that file"
        )
    matches = [path] if os.path.exists(path) else glob.glob(path, recursive=True)
    if not matches and "[" in path:
        matches = glob.glob(path.replace("[", "[[]"), recursive=True)
    if missing := [match for match in matches if not os.path.exists(match)]:
        raise command.UserError(f"{missing[0]} is a link to a file that does not exist; correct or delete it")
    if files := [os.path.normpath(match) for match in sorted(matches) if os.path.isfile(match)]:
        folders = [match for match in sorted(matches) if os.path.isdir(match)]
        if folders and "**" not in pattern:  # a data set in folders often has a README.md next to them
            print(
                f"warning: {pattern!r} also matches {numerals.count(len(folders), 'folder')} such as {folders[0]}, "
                f"whose files are not read: {_below(pattern)!r} matches them",
                file=sys.stderr,
            )
        return files
    raise command.UserError(f"no file matches the input {pattern!r}; {_advice(pattern, matches)}")


def _advice(pattern: str, folders: list[str]) -> str:
    """Returns what to do about a pattern that matches no file. folders: those that it matches."""
    if not folders:
        return "check it (for a directory give 'DIR/*')"
    for below in ("*", "**/*"):
        if any(os.path.isfile(p) for f in folders for p in glob.iglob(f"{glob.escape(f)}/{below}", recursive=True)):
            return f"only directories do: give {_below(pattern, below)!r}"
    return "only directories do, and no file lies in them"


def _below(pattern: str, below: str = "**/*") -> str:
    """Returns the pattern of the files in the folders that `pattern` matches."""
    return f"{pattern[:-1]}**/*" if pattern.endswith("/*") else f"{pattern.rstrip('/')}/{below}"
