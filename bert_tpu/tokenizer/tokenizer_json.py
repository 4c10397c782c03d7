"""Reads a tokenizer.json, the file of the library `tokenizers`, and refuses what is not WordPiece with BERT's rules."""

from collections.abc import Mapping
import json
from typing import Any, NamedTuple

from etils import epath
import tokenizers

from bert_tpu.core import command
from bert_tpu.tokenizer import added_tokens, normalization

NEEDED = "a BERT WordPiece tokenizer is needed"
# Truncation and padding are set anew by each call of transformers, and a decoder only joins pieces to text.
FIELDS = {
    "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder",
    "model",
}  # fmt: skip
MODEL_FIELDS = {"type", "unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"}


class Content(NamedTuple):
    """The content of a tokenizer.json.

    pieces: those of WordPiece, in the order of their ids
    lower, rules: how text becomes words
    unk: the piece of unknown words
    added: the added tokens by their ids
    frame: (cls, its id), (sep, its id) if texts are framed as BERT does, None if they are not framed at all
    """

    pieces: tuple[str, ...]
    lower: bool
    rules: normalization.Rules
    unk: str
    added: dict[int, tokenizers.AddedToken]
    frame: tuple[tuple[str, int], tuple[str, int]] | None

    @property
    def is_google(self) -> bool:
        """Whether the rules are those of google-research/bert, which only this project writes."""
        return self.rules.clean == normalization.GOOGLE


def parse(content: Mapping[str, Any], path: epath.Path) -> Content:
    """The content of the file at `path`. Raises UserError, which names what is not BERT's."""
    if unknown := sorted(content.keys() - FIELDS):
        raise command.UserError(f"{path} has the unknown key {unknown[0]!r}; {NEEDED}")
    model = content.get("model")
    model = model if isinstance(model, dict) else {}
    # Files of old releases do not name the type, but only a WordPiece model has this key.
    if model.get("type", "WordPiece") != "WordPiece" or "max_input_chars_per_word" not in model:
        raise command.UserError(f"{path} holds a {model.get('type')} model; {NEEDED}")
    if unknown := sorted(model.keys() - MODEL_FIELDS):
        raise command.UserError(f"{path} has the unknown key {unknown[0]!r} in its model; {NEEDED}")
    if model.get("continuing_subword_prefix") != "##":
        raise command.UserError(f"{path} does not mark continuing pieces by ##; {NEEDED}")
    max_chars = model["max_input_chars_per_word"]
    if type(max_chars) is not int or max_chars < 1:
        raise command.UserError(f"{path} has max_input_chars_per_word {max_chars!r:.80}; write a number, as BERT's 100")
    if content.get("pre_tokenizer") != {"type": "BertPreTokenizer"}:
        raise command.UserError(f"{path} splits words by other rules than BERT's; {NEEDED}")
    case_and_rules = normalization.parse(content.get("normalizer"))
    if case_and_rules is None:
        raise command.UserError(f"{path} normalizes text by other rules than BERT's; {NEEDED}")
    lower, found = case_and_rules
    understood = Content(
        pieces=_pieces(model.get("vocab"), path),
        lower=lower,
        rules=found._replace(max_chars=max_chars),
        unk=str(model.get("unk_token")),
        added=_added(content.get("added_tokens"), path),
        frame=_frame(content.get("post_processor"), path),
    )
    _check_whole(content, model, path)
    return understood


def _check_whole(content: Mapping[str, Any], model: Mapping[str, Any], path: epath.Path) -> None:
    """Raises UserError unless the library reads the file. Left out are pieces and tokens, which take it time."""
    small = dict(content) | {"model": dict(model) | {"vocab": {}}, "added_tokens": []}
    try:
        tokenizers.Tokenizer.from_str(json.dumps(small))
    except Exception as error:  # the library raises this class itself
        raise command.UserError(f"{path} is not read by the library tokenizers ({error}); make it again") from None


def _pieces(vocab: Any, path: epath.Path) -> tuple[str, ...]:
    is_table = isinstance(vocab, dict) and all(type(i) is int for i in vocab.values())
    by_id = {i: piece for piece, i in vocab.items()} if is_table else {}
    if not by_id or sorted(by_id) != list(range(len(vocab))):
        raise command.UserError(f"{path} has gaps in its ids; {NEEDED}")
    if odd := [piece for piece in by_id.values() if not piece or "\n" in piece or "\r" in piece]:
        raise command.UserError(f"{path} has the piece {odd[0]!r:.80}, which no text gives; {NEEDED}")
    return tuple(by_id[i] for i in range(len(by_id)))


def _added(entries: Any, path: epath.Path) -> dict[int, tokenizers.AddedToken]:
    added = {}
    for entry in entries if isinstance(entries, list) else [entries]:
        token = added_tokens.from_json(entry)
        if token is None or type(entry.get("id")) is not int or entry["id"] in added:
            raise command.UserError(f"{path} has the added token {entry!r:.80}, which is not understood; make it again")
        added[entry["id"]] = token
    return added


def _frame(processor: Any, path: epath.Path) -> tuple[tuple[str, int], tuple[str, int]] | None:
    """(cls, its id), (sep, its id) of a post-processor that makes [CLS] A [SEP] and [CLS] A [SEP] B [SEP]."""
    if processor is None:
        return None
    try:
        if processor["type"] == "BertProcessing":
            (cls, cls_id), (sep, sep_id) = processor["cls"], processor["sep"]
            return (cls, int(cls_id)), (sep, int(sep_id))
        if processor["type"] == "TemplateProcessing":
            single, pair = (_words(processor[key]) for key in ("single", "pair"))
            (_, cls, _), _, (_, sep, _) = single
            start, end = ("SpecialToken", cls, 0), ("SpecialToken", sep, 0)
            rest = [("Sequence", "B", 1), ("SpecialToken", sep, 1)]
            (cls_id,), (sep_id,) = (processor["special_tokens"][name]["ids"] for name in (cls, sep))
            if single == [start, ("Sequence", "A", 0), end] and pair == [*single, *rest]:
                return (cls, int(cls_id)), (sep, int(sep_id))
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise command.UserError(f"{path} does not frame texts as [CLS] A [SEP] B [SEP]; {NEEDED}")


def _words(template: list[dict[str, Any]]) -> list[tuple[str, str, int]]:
    """(kind, name, type) of each part of a template. Raises ValueError for a part without one kind."""
    words = []
    for part in template:
        ((kind, value),) = part.items()
        words.append((kind, value["id"], value["type_id"]))
    return words
