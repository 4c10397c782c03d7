"""Recognizes a failed download: Git LFS's pointer, a web page, or a server's error instead of the file."""

import os
import re

from etils import epath

from bert_tpu.core import command

HEAD = 1 << 10  # bytes of a file's beginning that `mistake` needs
MISTAKES = (
    (rb"version https://git-lfs", "a pointer of Git LFS; fetch the file itself by git lfs pull"),
    # A page may begin with an XML declaration or a comment.
    (
        rb"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b",
        "a web page; download the raw file, not the page that shows it",
    ),
    # What the Hugging Face Hub and GitHub send for a wrong name or without a login.
    (
        rb"(\{\s*\"error\"\s*:\s*\")?"
        rb"(entry not found|repository not found|invalid (username or password|credentials)|404: not found"
        rb"|access to model .{1,200} is restricted|not found\s*$|unauthorized\s*$)",
        "a server's error message; check the address and your login, and download the file again",
    ),
)


def mistake(head: bytes) -> str:
    """Says what a file with this beginning is, and the remedy, if a download went wrong; "" for other files.

    head: its first HEAD bytes, or more
    """
    text = head[:HEAD].removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((kind for form, kind in MISTAKES if re.match(form, text, re.IGNORECASE | re.DOTALL)), "")


def check(path: str | os.PathLike) -> None:
    """Raises UserError, with the file's name, if the file at `path` is such a mistake."""
    with epath.Path(path).open("rb") as file:
        if kind := mistake(file.read(HEAD)):
            raise command.UserError(f"{path} is {kind}")


def exists(path: str | os.PathLike) -> bool:
    """True if there is a file. Raises UserError for a link whose target is missing: it was meant to be there."""
    if os.path.islink(path) and not os.path.exists(path):
        raise command.UserError(
            f"{path} is a link to a file that does not exist, as after an unfinished download or in a copy of links; "
            "fetch the files again, for example by hf download NAME --local-dir DIR"
        )
    return epath.Path(path).exists()
