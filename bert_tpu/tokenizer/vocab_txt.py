"""Reads a vocab.txt: a piece a line, in the order of the ids."""

from collections.abc import Iterable
import string

from etils import epath

from bert_tpu.core import command, downloads

NEEDED = "a BERT WordPiece tokenizer is needed"


def read(path: epath.Path) -> tuple[str, ...]:
    """The pieces of the file at `path`. Raises UserError if there is none, or if it is not different lines of UTF-8."""
    downloads.exists(path)  # refuses a link without its file
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise command.UserError(
            f"tokenizer {path} does not exist; give a folder or a vocab.txt, which you downloaded or trained"
        ) from None
    if not raw:
        raise command.UserError(f"{path} is empty; fetch it again")
    if kind := downloads.mistake(raw):
        raise command.UserError(f"{path} is {kind}")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise command.UserError(f"{path} begins with a byte order mark; save it as UTF-8 without one")
    try:
        text = raw.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise command.UserError(f"{path} is not UTF-8 text; convert it, or fetch it again") from None
    pieces = tuple(text.removesuffix("\n").split("\n"))
    if "\r" in text:
        line = next(i for i, piece in enumerate(pieces, 1) if "\r" in piece)
        raise command.UserError(f"{path} line {line:,} has a carriage return in it; end lines by a line feed")
    if len(words := pieces[0].split()) > 1:
        raise command.UserError(f"{path} line 1 has {len(words)} columns ({pieces[0]!r:.80}); keep those of the pieces")
    _check(pieces, path)
    return pieces


def _check(pieces: tuple[str, ...], path: epath.Path) -> None:
    seen: set[str] = set()
    for number, piece in enumerate(pieces, 1):
        # transformers 5 drops white space at the end of a line, so two such lines would be one piece.
        text = piece.rstrip() or piece
        if not text or text in seen:
            raise command.UserError(
                f"{path} line {number:,} is empty or repeated ({piece!r:.80}); "
                "each line of a vocabulary must be a different piece"
            )
        seen.add(text)


def capital(pieces: Iterable[str]) -> str:
    """The first piece with a capital letter that text can give, "" if there is none.

    "[ENT]" is none: words are split at punctuation, so text never gives it.
    """
    for piece in pieces:
        word = piece.removeprefix("##")
        if word != word.lower() and not any(char in string.punctuation for char in word):
            return piece
    return ""
