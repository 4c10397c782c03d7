"""Reads a tokenizer's files as transformers 5 does, and refuses files that contradict each other."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from etils import epath
import tokenizers
from tokenizers import models, normalizers

from bert_tpu.core import command
from bert_tpu.tokenizer import added_tokens, folder_files, normalization, settings, token_files, vocab_txt

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
RULES = ("tokenizer_config.json", "tokenizer.json", "added_tokens.json")  # files that say how text is read
NAMES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")  # those of SPECIALS in the files


class Parts(NamedTuple):
    """The content of a tokenizer's files. The fields are those of vocab.Vocab."""

    pieces: tuple[str, ...]
    lower: bool
    rules: normalization.Rules
    added: tuple[added_tokens.AddedToken, ...]
    specials: tuple[str, ...]


def bare(pieces: tuple[str, ...]) -> Parts:
    """The tokenizer of a vocab.txt without other files: Google's rules, uncased if no piece has a capital letter."""
    return Parts(pieces, not vocab_txt.capital(pieces), normalization.Rules(), (), SPECIALS)


def read(path: epath.Path) -> Parts:
    """The tokenizer of a folder. Raises UserError if it is not BERT's, or if its files contradict each other."""
    files = folder_files.read(path)
    if files.full is None and files.pieces is not None and not files.class_name:
        return bare(files.pieces)
    lower, switches = _rules(files)
    from_files, further = token_files.special(files)
    is_alone = not files.reads_json or not files.class_name  # then BERT's names stand for those that no file has
    named = {**dict(zip(NAMES, SPECIALS, strict=True) if is_alone else ()), **from_files}
    if missing := [name for name in NAMES if name not in named]:
        raise command.UserError(
            f"{path / 'tokenizer_config.json'} does not name the {missing[0]}; add it, as in "
            f'"{missing[0]}": "{SPECIALS[NAMES.index(missing[0])]}"'
        )
    specials = tuple(added_tokens.content(named[name]) for name in NAMES)
    _check_frame(files, specials)
    pieces = files.full.pieces if files.full else files.pieces or ()
    wordpiece = tokenizers.Tokenizer(
        models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token=specials[1])
    )
    if files.reads_json and files.full:
        wordpiece.add_tokens([token for _, token in sorted(files.full.added.items())])
    found = added_tokens.register(wordpiece, token_files.numbered(files, from_files, further), named, further)
    token_files.check(files, found, pieces, specials)
    tokens = [added_tokens.from_library(token, number < len(pieces)) for number, token in sorted(found.items())]
    plain = [*map(added_tokens.plain_special, specials)]
    added = tuple(token for token in tokens if token not in plain)
    _check_texts(added, normalization.normalizer(lower, switches), path)
    return Parts((*pieces, *(token.content for token in added if not token.is_piece)), lower, switches, added, specials)


def _check_texts(
    added: Iterable[added_tokens.AddedToken], normalizer: normalizers.Normalizer, path: epath.Path
) -> None:
    """Raises UserError for an added token that is nothing, or the same as another one, after text was cleaned."""
    texts: dict[str, str] = {}
    for token in added:
        text = normalizer.normalize_str(token.content) if token.normalized else ""
        if token.normalized and not text:
            raise command.UserError(f"{path} has the added token {token.content!r}, an empty text; remove it")
        if text in texts:
            raise command.UserError(
                f"{path} has the added tokens {texts[text]!r} and {token.content!r}, which become the same "
                "text; remove one, or set normalized to false"
            )
        if text:
            texts[text] = token.content


def _rules(files: folder_files.Files) -> tuple[bool, normalization.Rules]:
    """(case, rules) of tokenizer.json, or of BertTokenizer with the switches of tokenizer_config.json."""
    config, full = files.config, files.full
    if files.reads_json:
        assert full is not None
        _check_rules(files, {key: config[key] for key in settings.SWITCHES if config.get(key) is not None})
        return full.lower, full.rules
    defaults = {"do_lower_case": True, "strip_accents": None, "tokenize_chinese_chars": True, "clean_text": True}
    in_config = defaults | {key: config[key] for key in settings.SWITCHES if key in config}
    if not in_config["clean_text"]:
        raise command.UserError(
            f"{files.path / 'tokenizer_config.json'} has clean_text=False, which {files.class_name} ignores; "
            "set it to true, or tokenizer_class to PreTrainedTokenizerFast"
        )
    lower = bool(in_config["do_lower_case"])
    in_config["strip_accents"] = lower if in_config["strip_accents"] is None else in_config["strip_accents"]
    if full:
        _check_rules(files, in_config)
        if full.rules.max_chars != normalization.BERT_TOKENIZER.max_chars:
            raise command.UserError(
                f"{files.path / 'tokenizer.json'} has max_input_chars_per_word={full.rules.max_chars}, which "
                f"{files.class_name} ignores; set it to {normalization.BERT_TOKENIZER.max_chars}, or tokenizer_class "
                "to PreTrainedTokenizerFast in tokenizer_config.json"
            )
    elif "do_lower_case" not in config and (capital := vocab_txt.capital(files.pieces or ())):
        raise command.UserError(
            f"{files.path / 'vocab.txt'} has pieces with capital letters, such as {capital!r}, and transformers would "
            'lower all text; write {"do_lower_case": false} or true to tokenizer_config.json, as the model was trained'
        )
    switches = {
        "strip_accents": normalization.accents(in_config["strip_accents"], lower),
        "chinese": in_config["tokenize_chinese_chars"],
    }
    return lower, normalization.BERT_TOKENIZER._replace(**switches)


def _check_rules(files: folder_files.Files, in_config: Mapping[str, Any]) -> None:
    """Raises UserError unless tokenizer.json has the switches that `in_config` has."""
    assert files.full is not None
    lower, switches = files.full.lower, files.full.rules
    written = {
        "do_lower_case": ("lowercase", lower),
        "strip_accents": ("strip_accents", lower if switches.strip_accents is None else switches.strip_accents),
        "tokenize_chinese_chars": ("handle_chinese_chars", switches.chinese),
        "clean_text": ("clean_text", switches.clean != normalization.KEEP),
    }
    for key, value in in_config.items():
        name, other = written[key]
        if value != other:
            default = "" if key in files.config else ", its default"
            raise command.UserError(
                f"{files.path / 'tokenizer.json'} has {name}={other} and tokenizer_config.json {key}={value}{default}; "
                "write to both what the model was trained with"
            )


def _check_frame(files: folder_files.Files, specials: tuple[str, ...]) -> None:
    """Raises UserError if tokenizer.json uses other special pieces than those that the files name."""
    if len(set(specials)) < len(specials):
        raise command.UserError(
            f"{files.path} has the special pieces {' '.join(specials)}; BERT needs five different ones"
        )
    if files.full is None:
        return
    path, (_, unk, cls, sep, _) = files.path / "tokenizer.json", specials
    if files.full.unk != unk:
        raise command.UserError(
            f"{path} has the unk_token {files.full.unk!r}, and {unk!r} is named; correct the wrong one"
        )
    if files.full.frame is None:
        if files.reads_json and files.class_name:
            raise command.UserError(f"{path} does not frame texts as [CLS] A [SEP] B [SEP]; {folder_files.NEEDED}")
    elif [name for name, _ in files.full.frame] != [cls, sep]:
        raise command.UserError(f"{path} frames texts by other pieces than {cls!r} and {sep!r}; correct the wrong ones")
