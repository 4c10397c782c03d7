"""The vocabulary: WordPiece pieces in BERT's layout, and the tokenizer that follows Google's rules."""

import hashlib
import json
from pathlib import Path
import string
from typing import Any, NamedTuple

from etils import epath
import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert_tpu.core import command, numerals
from bert_tpu.tokenizer import added_tokens, folder, normalization, vocab_txt

SPECIALS = folder.SPECIALS
MAX_PIECES = 1 << 16  # of a corpus, whose ids are uint16, 0 .. 65,535; none is reserved for a marker


class Vocab(NamedTuple):
    """A vocabulary and the rules by which text becomes its pieces.

    Vocabularies trained here and a vocab.txt without other files follow Google's rules, the defaults. A tokenizer of
    transformers keeps the rules that transformers has for it, and its own added tokens.

    pieces: the pieces in the order of their ids; added tokens that WordPiece does not have come last
    lower: whether text is lower-cased
    rules: what else happens to text before WordPiece
    added: tokens that are found in raw text, in the order of their ids; without special pieces as BERT has them
    specials: the pieces of padding, unknown words, [CLS], [SEP] and [MASK]
    """

    pieces: tuple[str, ...]
    lower: bool
    rules: normalization.Rules = normalization.Rules()
    added: tuple[added_tokens.AddedToken, ...] = ()
    specials: tuple[str, ...] = SPECIALS


class Ids(NamedTuple):
    """The ids of the special pieces."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


def ids(vocab: Vocab) -> Ids:
    """The ids of the special pieces, looked up by name."""
    return Ids(*map(vocab.pieces.index, vocab.specials))


def id_dtype(vocab: Vocab) -> np.dtype[Any]:
    """The smallest type that holds every id: uint16, or uint32 for more than MAX_PIECES pieces."""
    return np.dtype(np.uint16 if len(vocab.pieces) <= MAX_PIECES else np.uint32)


def check_corpus_ids(vocab: Vocab, path: str | Path) -> None:
    """Raises UserError, which names `path`, if a corpus cannot have these ids: id 0 is for padding alone."""
    if len(vocab.pieces) > MAX_PIECES:
        raise command.UserError(
            f"{path} has {len(vocab.pieces):,} pieces, but a corpus stores ids in 16 bits; "
            f"use a vocabulary of at most {MAX_PIECES:,}"
        )
    if pad := ids(vocab).pad:
        raise command.UserError(f"{path} gives {vocab.specials[0]} the id {pad}; a corpus needs [PAD] at id 0, as BERT")


def sha256(vocab: Vocab) -> str:
    """SHA-256 of all that decides the ids of a text."""
    content: list[Any] = [vocab.lower, vocab.pieces]
    if vocab[2:] != Vocab((), True)[2:]:
        content += [list(vocab.rules), [list(token) for token in vocab.added], vocab.specials]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def differences(ours: Vocab, theirs: Vocab) -> list[tuple[str, str]]:
    """Differences between what two vocabularies make of text, as far as they matter to a model: (ours, theirs).

    Google's rules and transformers' differ only in final sigmas, private-use characters and words of 101 to 200
    characters, and are taken as the same. Pieces are not compared.
    """
    return [(a, b) for a, b in zip(_habits(ours), _habits(theirs), strict=True) if a != b]


def describe(vocab: Vocab) -> str:
    """The vocabulary in words: "30,522 pieces, uncased" and what is not as in Google's models."""
    case, accents, chinese, tokens, names = _habits(vocab)
    words = [numerals.count(len(vocab.pieces), "piece"), {"lowers text": "uncased", "keeps case": "cased"}[case]]
    words += [accents] if vocab.rules.strip_accents is not None else []
    words += [chinese] if not vocab.rules.chinese else []
    words += [tokens] if _found(vocab) else []
    words += [names] if vocab.specials != SPECIALS else []
    return ", ".join(words)


def _found(vocab: Vocab) -> list[str]:
    """The tokens that are found in raw text."""
    return [token.content for token in vocab.added if token.content not in vocab.specials]


def _habits(vocab: Vocab) -> list[str]:
    strips = vocab.lower if vocab.rules.strip_accents is None else vocab.rules.strip_accents
    texts = _found(vocab)
    shown = ", ".join(map(repr, texts[:3])) + (", ..." if len(texts) > 3 else "")
    return [
        "lowers text" if vocab.lower else "keeps case",
        "drops accents" if strips else "keeps accents",
        "makes words of CJK characters" if vocab.rules.chinese else "makes no words of CJK characters",
        f"has {len(texts):,} added token{'s' * (len(texts) > 1)} ({shown})" if texts else "has no added tokens",
        f"has the special pieces {' '.join(vocab.specials)}",
    ]


def tokenizer(vocab: Vocab) -> tokenizers.Tokenizer:
    """The tokenizer of raw text. "[MASK]" in a corpus becomes ordinary pieces, never id 103."""
    wordpiece = _wordpiece(vocab)
    if vocab.added:
        # Special pieces are registered for their ids and not found in text. All other tokens are.
        tokens = [token._replace(special=token.content in vocab.specials) for token in vocab.added]
        wordpiece.add_tokens([token.library() for token in tokens])
        wordpiece.encode_special_tokens = True
    return wordpiece


def marked_tokenizer(vocab: Vocab) -> tokenizers.Tokenizer:
    """The tokenizer that finds special pieces in text, too, as transformers does: "[MASK]" becomes id 103."""
    wordpiece = _wordpiece(vocab)
    registered = {token.content for token in vocab.added}
    plain = [added_tokens.plain_special(name) for name in vocab.specials if name not in registered]
    wordpiece.add_tokens([token.library() for token in (*plain, *vocab.added)])
    return wordpiece


def _wordpiece(vocab: Vocab) -> tokenizers.Tokenizer:
    pieces = vocab.pieces[: len(vocab.pieces) - sum(not token.is_piece for token in vocab.added)]
    wordpiece = tokenizers.Tokenizer(
        models.WordPiece(
            {piece: i for i, piece in enumerate(pieces)},
            unk_token=vocab.specials[1],
            max_input_chars_per_word=vocab.rules.max_chars,
        )
    )
    wordpiece.normalizer = normalization.normalizer(vocab.lower, vocab.rules)
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.decoder = decoders.WordPiece(prefix="##")
    return wordpiece


def save(vocab: Vocab, directory: str | Path, *, max_length: int = 512) -> None:
    """Writes vocab.txt, tokenizer.json and tokenizer_config.json for transformers, which then gives the same ids.

    tokenizer.json holds the tokenizer of `marked_tokenizer`. It encodes texts as [CLS] A [SEP] and pairs as [CLS] A
    [SEP] B [SEP]. vocab.txt has the pieces of WordPiece alone.

    max_length: tokens that the model accepts
    """
    path = epath.Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    full = marked_tokenizer(vocab)
    pieces = vocab.pieces[: full.get_vocab_size(with_added_tokens=False)]
    (path / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    special, (_, _, cls, sep, _) = ids(vocab), vocab.specials
    full.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, special.cls), (sep, special.sep)],
    )
    (path / "tokenizer.json").write_text(full.to_str(pretty=True), encoding="utf-8")
    config = special_tokens_map(vocab) | {
        # For those who load the tokenizer by its class, BertTokenizer, which does not read them in tokenizer.json.
        "do_lower_case": vocab.lower,
        "strip_accents": vocab.rules.strip_accents,
        "tokenize_chinese_chars": vocab.rules.chinese,
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        # With "BertTokenizer", transformers 5 would ignore the rules in tokenizer.json and rebuild others.
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    further = [token.content for token in vocab.added if token.special and token.content not in vocab.specials]
    if further:
        config["additional_special_tokens"] = further
    (path / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def special_tokens_map(vocab: Vocab) -> dict[str, str]:
    """The special pieces by the names that transformers has for them."""
    return dict(zip(folder.NAMES, vocab.specials, strict=True))


def load(path: str | Path) -> Vocab:
    """The vocabulary of a vocab.txt, or of a folder of tokenizer files.

    A folder's rules and added tokens are those that transformers 5 takes from its files. A vocab.txt without other
    files follows Google's rules, and is uncased if no piece has a capital letter. Raises UserError for a tokenizer that
    is not a BERT WordPiece, for keys that are not understood, for files that contradict each other, and for a vocab.txt
    that the files next to it read otherwise.
    """
    source = epath.Path(path)
    if source.suffix == ".json":
        raise command.UserError(f"{source} is one file of a tokenizer; give the folder with all of them")
    parts = folder.read(source) if source.is_dir() else folder.bare(vocab_txt.read(source))
    if missing := [name for name in parts.specials if name not in parts.pieces]:
        raise command.UserError(f"{source} lacks {' '.join(missing)}; {vocab_txt.NEEDED}")
    loaded = Vocab(*parts)
    if source.name == "vocab.txt" and any((source.parent / name).exists() for name in folder.RULES):
        whole = load(source.parent)
        if found := differences(whole, loaded):
            theirs, alone = found[0]
            raise command.UserError(
                f"{source} is one file of a tokenizer that {theirs}, and alone it {alone}; "
                f"give the folder, {source.parent}"
            )
        return whole
    return loaded


def unreachable(vocab: Vocab) -> str:
    """A sentence on pieces that no text gives, as the rules drop their accents or lower them; "" for a few or none."""
    rule = normalizers.BertNormalizer(
        clean_text=False, handle_chinese_chars=False, strip_accents=vocab.rules.strip_accents, lowercase=vocab.lower
    )
    words = [piece.removeprefix("##") for piece in vocab.pieces]
    if (joined := " ".join(words)) == rule.normalize_str(joined):
        return ""
    words = [word for word in words if not any(char in string.punctuation for char in word)]
    lost = [word for word in words if rule.normalize_str(word) != word]
    if len(lost) <= max(5, len(words) // 1000):
        return ""
    accents = any(word == word.lower() for word in lost)
    key = '"strip_accents": false' if accents else '"do_lower_case": false'
    return (
        f"{len(lost):,} of its {len(vocab.pieces):,} pieces, such as {lost[len(lost) // 2]!r}, are never used, as the "
        f"tokenizer {'drops accents' if accents else 'lowers text'}: if the model was trained otherwise, write {key} "
        "to its tokenizer_config.json"
    )
