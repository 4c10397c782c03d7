"""The files of a tokenizer's folder."""

import json
from typing import Any, NamedTuple

from etils import epath

from bert_tpu.core import command, downloads, storage
from bert_tpu.tokenizer import settings, tokenizer_json, vocab_txt

NEEDED = "a BERT WordPiece tokenizer is needed"
INSTEAD = {  # files of folders without a tokenizer that is read -> what they are
    "*vocab*.txt": "which may be renamed to vocab.txt if it has a piece in each line",
    "merges.txt": "a part of a byte-pair tokenizer, as RoBERTa has",
    "*.model": "a SentencePiece tokenizer",
    "vocab.json": "whose pieces can be written to a vocab.txt in the order of their ids if they are WordPiece's",
}


class Files(NamedTuple):
    """A folder's files: JSON objects, {} for one that does not exist; the pieces of vocab.txt; a tokenizer.json."""

    path: epath.Path
    config: dict[str, Any]  # tokenizer_config.json
    special_map: dict[str, Any]  # special_tokens_map.json
    added: dict[str, Any]  # added_tokens.json
    pieces: tuple[str, ...] | None
    full: tokenizer_json.Content | None
    class_name: str

    @property
    def reads_json(self) -> bool:
        """Whether transformers takes the rules from tokenizer.json, and not from tokenizer_config.json.

        A tokenizer.json alone is what the library `tokenizers` writes. Google's rules are in no other file.
        """
        return self.class_name in settings.JSON_CLASSES or (
            self.full is not None and (not self.class_name or self.full.is_google)
        )


def read(path: epath.Path) -> Files:
    """The files in `path`. Raises UserError if they are not a BERT tokenizer's, or if their pieces differ."""
    txt, full = path / "vocab.txt", path / "tokenizer.json"
    config, special_map, added, whole, model = (
        _read_json(path / name)
        for name in (
            "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "tokenizer.json", "config.json",
        )
    )  # fmt: skip
    if not whole and not downloads.exists(txt):
        raise command.UserError(f"{path} has no vocab.txt and no tokenizer.json{_instead(path)}; {NEEDED}")
    class_name = settings.tokenizer_class(config, special_map or added, model, path)
    settings.check(config, path / "tokenizer_config.json")
    pieces = vocab_txt.read(txt) if downloads.exists(txt) else None
    content = tokenizer_json.parse(whole, full) if whole else None
    if content and pieces is not None and pieces != content.pieces:
        raise command.UserError(f"{txt} and {full} have different pieces; delete the wrong one")
    files = Files(path, config, special_map, added, pieces, content, class_name)
    if files.reads_json and content is None:
        raise command.UserError(f"{path} names the class {class_name} and has no tokenizer.json; fetch that file, too")
    if files.reads_json and config.get("tokenizer_class") and class_name in settings.BERT_CLASSES:
        raise command.UserError(
            f"{full} has Google's rules, which the class {class_name} ignores; "
            "set tokenizer_class to PreTrainedTokenizerFast in tokenizer_config.json"
        )
    return files


def _instead(path: epath.Path) -> str:
    """Says which other files of a tokenizer a folder has; "" for none."""
    for pattern, kind in INSTEAD.items():
        if found := sorted(each.name for each in storage.named(path, pattern)):
            return f", but {found[0]}, {kind}"
    return ""


def _read_json(path: epath.Path) -> dict[str, Any]:
    if not downloads.exists(path):
        return {}
    raw = path.read_bytes()
    if kind := downloads.mistake(raw):
        raise command.UserError(f"{path} is {kind}")
    try:
        content = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        raise command.UserError(f"{path} is not JSON; fetch or make it again") from None
    if not isinstance(content, dict):
        raise command.UserError(f"{path} is not a JSON object; fetch or make it again")
    return content
