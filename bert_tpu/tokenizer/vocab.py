"""The vocabulary: WordPiece pieces in BERT's layout, and the tokenizer that follows Google's rules."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from etils import epath
import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert_tpu.core import command

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NEEDED = "a BERT WordPiece tokenizer is needed"
MAX_PIECES = 1 << 16  # of a corpus, whose ids are uint16, 0 .. 65,535; none is reserved for a marker
MAX_CHARS_PER_WORD = 200  # google-research/bert; the library's own default is 100


class Vocab(NamedTuple):
    """A vocabulary: the pieces in the order of their ids, and whether text is lower-cased."""

    pieces: tuple[str, ...]
    lower: bool


class Ids(NamedTuple):
    """The ids of the special pieces."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


def ids(vocab: Vocab) -> Ids:
    """The ids of the special pieces, looked up by name."""
    return Ids(*map(vocab.pieces.index, SPECIALS))


def id_dtype(vocab: Vocab) -> np.dtype[Any]:
    """The smallest type that holds every id: uint16, or uint32 for more than MAX_PIECES pieces."""
    return np.dtype(np.uint16 if len(vocab.pieces) <= MAX_PIECES else np.uint32)


def check_corpus_ids(vocab: Vocab, path: str | Path) -> None:
    """Raises UserError, which names `path`, if the ids do not fit into a corpus."""
    if len(vocab.pieces) > MAX_PIECES:
        raise command.UserError(
            f"{path} has {len(vocab.pieces):,} pieces, but a corpus stores ids in 16 bits; "
            f"use a vocabulary of at most {MAX_PIECES:,}"
        )


def sha256(vocab: Vocab) -> str:
    """SHA-256 of the pieces, their order and the case rule."""
    return hashlib.sha256(json.dumps([vocab.lower, vocab.pieces]).encode()).hexdigest()


def normalizer(lower: bool) -> normalizers.Normalizer:
    """BasicTokenizer's cleaning of text. The library's BertNormalizer differs from it in two places, corrected here."""
    cased = r"[\p{Cased}&&[^\p{Case_Ignorable}]]"
    rules = [
        # BertNormalizer's own clean_text also drops private-use characters; Google's does not.
        normalizers.Replace(tokenizers.Regex(r"[[\p{Cc}\p{Cf}\x{FFFD}]&&[^\t\n\r]]"), ""),
        normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=None, lowercase=lower),
    ]
    if lower:
        # Python's str.lower writes a final sigma at the end of a Greek word. Rust lowers char by char and does not.
        final = rf"(?<={cased}\p{{Case_Ignorable}}*)Σ(?!\p{{Case_Ignorable}}*{cased})"
        rules.insert(1, normalizers.Replace(tokenizers.Regex(final), "ς"))
    return normalizers.Sequence(rules)


def tokenizer(vocab: Vocab) -> tokenizers.Tokenizer:
    """The tokenizer of raw text. "[MASK]" in a corpus becomes ordinary pieces, never id 103."""
    wordpiece = tokenizers.Tokenizer(
        models.WordPiece(
            {piece: i for i, piece in enumerate(vocab.pieces)},
            unk_token="[UNK]",
            max_input_chars_per_word=MAX_CHARS_PER_WORD,
        )
    )
    wordpiece.normalizer = normalizer(vocab.lower)
    wordpiece.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    wordpiece.decoder = decoders.WordPiece(prefix="##")
    return wordpiece


def save(vocab: Vocab, directory: str | Path, *, max_length: int = 512) -> None:
    """Writes vocab.txt, tokenizer.json and tokenizer_config.json for transformers.

    tokenizer.json holds the tokenizer of `tokenizer`, with the special pieces registered. It encodes texts as [CLS] A
    [SEP] and pairs as [CLS] A [SEP] B [SEP].

    max_length: tokens that the model accepts
    """
    folder = epath.Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocab.pieces), encoding="utf-8")
    special = ids(vocab)
    full = tokenizer(vocab)
    full.add_special_tokens(list(SPECIALS))
    full.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", special.cls), ("[SEP]", special.sep)],
    )
    (folder / "tokenizer.json").write_text(full.to_str(pretty=True), encoding="utf-8")
    config = {f"{name[1:-1].lower()}_token": name for name in SPECIALS} | {
        "do_lower_case": vocab.lower,
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        # With "BertTokenizer", transformers 5 would ignore the rules in tokenizer.json and rebuild others.
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def load(path: str | Path) -> Vocab:
    """The vocabulary of a vocab.txt, or of a directory with vocab.txt or tokenizer.json.

    Case is taken from tokenizer.json or tokenizer_config.json. A vocab.txt alone is uncased if it has no upper-case
    letter. Raises UserError for a tokenizer that is not a BERT WordPiece.
    """
    source = epath.Path(path)
    pieces, lower = _read_directory(source) if source.is_dir() else (_read_txt(source), None)
    _check(pieces, source)
    if lower is None:
        lower = all(piece in SPECIALS or piece == piece.lower() for piece in pieces)
    return Vocab(pieces, lower)


def _read_directory(path: epath.Path) -> tuple[tuple[str, ...], bool | None]:
    """(pieces, case) of a tokenizer directory. Raises UserError if its files contradict each other."""
    txt, full, config = (path / name for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"))
    if not txt.exists() and not full.exists():
        raise command.UserError(f"{path} has no vocab.txt and no tokenizer.json; {NEEDED}")
    lower = _read_json(config).get("do_lower_case") if config.exists() else None
    if not full.exists():
        return _read_txt(txt), lower
    pieces, json_lower = _read_tokenizer_json(full)
    if lower is not None and lower != json_lower:
        raise command.UserError(f"{full} says lowercase={json_lower} and {config} do_lower_case={lower}; correct one")
    if txt.exists() and _read_txt(txt) != pieces:
        raise command.UserError(f"{txt} and {full} have different pieces; delete the wrong one")
    return pieces, json_lower


def _read_txt(path: epath.Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise command.UserError(f"tokenizer {path} does not exist; check the path") from None
    except UnicodeDecodeError:
        raise command.UserError(f"{path} is not UTF-8 text; {NEEDED}") from None
    return tuple(text.removesuffix("\n").split("\n"))


def _read_json(path: epath.Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise command.UserError(f"{path} is not JSON; fetch or make it again") from None
    if not isinstance(content, dict):
        raise command.UserError(f"{path} is not a JSON object; fetch or make it again")
    return content


def _read_tokenizer_json(path: epath.Path) -> tuple[tuple[str, ...], bool]:
    """(pieces, case) of a tokenizer.json. Raises UserError unless its rules are BERT's."""
    content = _read_json(path)
    model = content.get("model") or {}
    # Files of old releases do not name the type, but only a WordPiece model has this key.
    if model.get("type", "WordPiece") != "WordPiece" or "max_input_chars_per_word" not in model:
        raise command.UserError(f"{path} holds a {model.get('type')} model; {NEEDED}")
    if model.get("continuing_subword_prefix") != "##":
        raise command.UserError(f"{path} does not mark continuing pieces by ##; {NEEDED}")
    if (content.get("pre_tokenizer") or {}).get("type") != "BertPreTokenizer":
        raise command.UserError(f"{path} splits words by other rules than BERT's; {NEEDED}")
    by_id = {i: piece for piece, i in model["vocab"].items()}
    by_id |= {token["id"]: token["content"] for token in content.get("added_tokens") or ()}
    if sorted(by_id) != list(range(len(by_id))):
        raise command.UserError(f"{path} has gaps in its ids; {NEEDED}")
    lower = _case(content.get("normalizer"))
    if lower is None:
        raise command.UserError(f"{path} normalizes text by other rules than BERT's; {NEEDED}")
    return tuple(by_id[i] for i in range(len(by_id))), lower


def _case(rules: dict[str, Any] | None) -> bool | None:
    """True if these normalization rules lower-case text, False if not; None if they are neither ours nor BERT's."""
    for lower in (True, False):
        bert = (normalizers.BertNormalizer(lowercase=lower, strip_accents=s) for s in (None, lower))
        if rules in [json.loads(rule.__getstate__()) for rule in (normalizer(lower), *bert)]:
            return lower
    return None


def _check(pieces: tuple[str, ...], path: epath.Path) -> None:
    """Raises UserError unless `pieces` can be a BERT vocabulary."""
    if missing := [name for name in SPECIALS if name not in pieces]:
        raise command.UserError(f"{path} lacks {' '.join(missing)}; {NEEDED}")
    if len(set(pieces)) < len(pieces) or "" in pieces:
        twice = next(p for i, p in enumerate(pieces) if not p or p in pieces[:i])
        raise command.UserError(
            f"{path} line {pieces.index(twice) + 1} is empty or repeated ({twice!r}); "
            "each line of a vocabulary must be a different piece"
        )
    if pieces[0] != "[PAD]":
        raise command.UserError(f"{path} gives [PAD] the id {pieces.index('[PAD]')}; in BERT's layout [PAD] is id 0")
