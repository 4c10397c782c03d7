"""Tokens that are found in raw text before it is split into words: special tokens and those of a domain."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tokenizers

FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
STANDARD = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
NEEDED = STANDARD[2:]


class AddedToken(NamedTuple):
    """A token that is found in raw text, with the meaning that the library `tokenizers` gives to these fields.

    content: its text, as in the vocabulary
    single_word: whether it must stand between characters that belong to no word
    lstrip, rstrip: whether it takes the white space before or after it
    normalized: whether it is looked for after text was lowered and cleaned
    special: whether decoding may leave it out
    is_piece: whether it is a piece of WordPiece's vocabulary, too
    """

    content: str
    single_word: bool = False
    lstrip: bool = False
    rstrip: bool = False
    normalized: bool = True
    special: bool = False
    is_piece: bool = False

    def library(self) -> tokenizers.AddedToken:
        """The library's object."""
        return tokenizers.AddedToken(self.content, **{flag: getattr(self, flag) for flag in FLAGS})


def from_library(token: tokenizers.AddedToken, is_piece: bool) -> AddedToken:
    """The token that `library` turns into `token`."""
    flags = {flag: getattr(token, flag) for flag in FLAGS}
    return AddedToken(token.content, is_piece=is_piece, **flags)


def plain_special(name: str) -> AddedToken:
    """A special piece as BERT has it."""
    return AddedToken(name, normalized=False, special=True, is_piece=True)


def from_json(value: Any) -> tokenizers.AddedToken | None:
    """The token that a dictionary describes, as transformers reads it; None if it describes none."""
    if not isinstance(value, dict) or not isinstance(value.get("content"), str):
        return None
    flags = {key: flag for key, flag in value.items() if key not in ("content", "id", "__type")}
    if not flags.keys() <= {*FLAGS} or not all(isinstance(flag, bool) for flag in flags.values()):
        return None
    return tokenizers.AddedToken(value["content"], **flags)


Token = str | tokenizers.AddedToken


def content(token: Token) -> str:
    """The text of a token."""
    return token if isinstance(token, str) else token.content


def register(
    tokenizer: tokenizers.Tokenizer,
    decoder: Mapping[int, tokenizers.AddedToken],
    named: Mapping[str, Token],
    further: Sequence[Token],
) -> dict[int, tokenizers.AddedToken]:
    """Adds tokens to `tokenizer` in the order of transformers 5, which decides their ids. Returns all tokens by id.

    A token that is a piece gets the piece's id, another one the next free id.

    decoder: tokens that have an id in the files
    named: special tokens by their names in the files, such as cls_token
    further: special tokens without a name
    """
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    known |= {token.content for token in decoder.values()}
    new = [token for _, token in sorted(decoder.items())]
    names = sorted(named, key=lambda name: STANDARD.index(name) if name in STANDARD else len(STANDARD))
    for token in (*(named[name] for name in names), *further):
        if content(token) not in known:
            known.add(content(token))
            new.append(tokenizers.AddedToken(token, special=True) if isinstance(token, str) else token)
    special = set(map(content, named.values()))
    for token in new:
        token.special = token.special or token.content in special
    tokenizer.add_tokens(new)
    return tokenizer.get_added_tokens_decoder()
