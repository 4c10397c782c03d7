"""The special and added tokens that the files of a tokenizer name."""

from collections.abc import Mapping
from typing import Any

from etils import epath
import tokenizers

from bert_tpu.core import command
from bert_tpu.tokenizer import added_tokens, folder_files, settings


def special(files: folder_files.Files) -> tuple[dict[str, added_tokens.Token], list[added_tokens.Token]]:
    """Special tokens with and without names, as transformers 5 takes them from the two JSON files."""
    config_path, map_path = files.path / "tokenizer_config.json", files.path / "special_tokens_map.json"
    named: dict[str, added_tokens.Token] = {}
    further: list[added_tokens.Token] = []
    for key, value in files.config.items():
        is_token = key.endswith("_token") and key not in settings.KNOWN
        if is_token and (value is not None or key in added_tokens.NEEDED):
            named[key] = _token(value, config_path, typed=True)
    extra = files.config.get("extra_special_tokens") or files.config.get("additional_special_tokens") or []
    if isinstance(extra, dict):
        named |= {key: _token(value, config_path, typed=True) for key, value in extra.items()}
    else:
        further = [_token(value, config_path, typed=True) for value in _listed(extra, config_path)]
    for key, value in files.special_map.items():
        if key in ("additional_special_tokens", "extra_special_tokens"):
            is_used = "added_tokens_decoder" not in files.config  # else transformers takes them from there
            typed = is_used and key == "additional_special_tokens"  # transformers 4 writes no types
            tokens = [_token(each, map_path, typed=typed) for each in _listed(value or [], map_path)]
            if is_used and (not extra or key == "extra_special_tokens"):
                further += tokens
        elif not key.endswith("_token"):
            raise command.UserError(f"{map_path} has {key}={value!r:.80}, which does not name a token; remove it")
        elif value is not None or key in added_tokens.NEEDED:
            token = _token(value, map_path, typed=False)
            if key in named and added_tokens.content(named[key]) != added_tokens.content(token):
                raise command.UserError(
                    f"{config_path} and {map_path} name different tokens as {key}; correct the wrong one"
                )
            if "added_tokens_decoder" not in files.config:
                named[key] = token
    return named, further


def _listed(value: Any, path: epath.Path) -> list[Any]:
    if not isinstance(value, list):
        raise command.UserError(f"{path} has the special tokens {value!r:.80}; write a list of texts")
    return value


def _token(value: Any, path: epath.Path, *, typed: bool) -> added_tokens.Token:
    """A special token of a JSON file: a text or a dictionary, which must have a type where `typed`."""
    if isinstance(value, str) and value:
        return value
    token = added_tokens.from_json(value)
    if token is None or not token.content or (typed and value.get("__type") != "AddedToken"):
        raise command.UserError(f"{path} has the token {value!r:.80}, which is not understood; write its text")
    token.special = token.special or not typed
    return token


def numbered(
    files: folder_files.Files, named: Mapping[str, added_tokens.Token], further: list[added_tokens.Token]
) -> dict[int, tokenizers.AddedToken]:
    """The tokens that have an id in the files, as transformers 5 takes them."""
    if "added_tokens_decoder" in files.config:
        return _decoder(files)
    standard = [token for name, token in named.items() if name in added_tokens.STANDARD]
    special = {added_tokens.content(token) for token in (*standard, *further)}
    path, found = files.path / "added_tokens.json", {}
    for text, number in files.added.items():
        if type(number) is not int or number in found or not text:
            raise command.UserError(
                f"{path} gives {text!r:.80} the id {number!r:.80}; each token needs an id of its own"
            )
        found[number] = tokenizers.AddedToken(text, normalized=text not in special, special=text in special)
    return found | (files.full.added if files.full else {})


def _decoder(files: folder_files.Files) -> dict[int, tokenizers.AddedToken]:
    """The added_tokens_decoder of tokenizer_config.json."""
    entries = files.config["added_tokens_decoder"]
    decoder = {}
    for number, value in entries.items() if isinstance(entries, dict) else [("", entries)]:
        token = added_tokens.from_json(value)
        if token is None or not token.content or not number.isdecimal():
            raise command.UserError(
                f"{files.path / 'tokenizer_config.json'} has the added token {number} {value!r:.80}, not clear; "
                "make the file again"
            )
        decoder[int(number)] = token
    return decoder


def check(
    files: folder_files.Files,
    found: Mapping[int, tokenizers.AddedToken],
    pieces: tuple[str, ...],
    specials: tuple[str, ...],
) -> None:
    """Raises UserError unless the tokens found are those that the files name, with the same ids."""
    ids = {token.content: number for number, token in found.items()}
    full = files.full.added if files.full else {}
    decoder = _decoder(files) if "added_tokens_decoder" in files.config else {}
    claims = [
        *(("tokenizer.json", token.content, number) for number, token in full.items()),
        *(("tokenizer_config.json", token.content, number) for number, token in decoder.items()),
        *(("added_tokens.json", text, number) for text, number in files.added.items()),
    ]
    for name, text, number in claims:
        if ids.get(text) != number:
            would = f"would have the id {ids[text]:,}" if text in ids else "would not be known"
            raise command.UserError(
                f"{files.path / name} gives {text!r:.80} the id {number}, but with the other files it {would}; "
                "correct the wrong file"
            )
    by_text = {token.content: token for token in full.values()}
    for token in decoder.values():
        if added_tokens.from_library(by_text.get(token.content, token), False) != added_tokens.from_library(
            token, False
        ):
            raise command.UserError(
                f"{files.path / 'tokenizer.json'} and tokenizer_config.json differ about {token.content!r:.80}; "
                "correct the wrong one"
            )
    whole = files.config.get("never_split") or []
    if not isinstance(whole, list) or not all(isinstance(text, str) and text in ids for text in whole):
        raise command.UserError(
            f"{files.path / 'tokenizer_config.json'} has never_split={whole!r:.80}, and transformers 5 splits these; "
            "remove the key, or make them added tokens"
        )
    for value in files.special_map.values():
        for token in value if isinstance(value, list) else [value]:
            text = token["content"] if isinstance(token, dict) else token
            if text is not None and text not in ids:
                raise command.UserError(
                    f"{files.path / 'special_tokens_map.json'} names {text!r:.80}, and tokenizer_config.json does not; "
                    "add it there or remove it here"
                )
    claimed = {text for _, text, _ in claims}
    if missing := [name for name in specials if name not in pieces and name not in claimed]:
        raise command.UserError(f"{files.path} lacks {' '.join(missing)}; {folder_files.NEEDED}")
    ends = () if files.full is None or files.full.frame is None else files.full.frame
    if any(number != ids[name] for name, number in ends):
        raise command.UserError(
            f"{files.path / 'tokenizer.json'} frames texts by other ids than its pieces'; make it again"
        )
