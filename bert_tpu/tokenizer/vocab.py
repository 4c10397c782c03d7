"""The vocabulary: WordPiece pieces in BERT's layout, and the tokenizer that Google's rules make."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from etils import epath
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert_tpu.core import command

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
NEEDED = "a BERT WordPiece tokenizer is needed"
MAX_PIECES = 1 << 16  # ids are stored as uint16, 0 .. 65,535; none of them is kept for a marker
MAX_CHARS_PER_WORD = 200  # google-research/bert; the library's own default is 100


class Vocab(NamedTuple):
    """All that decides how text becomes ids: the pieces in the order of their ids, and case."""

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
    """The special pieces, looked up by name."""
    return Ids(*map(vocab.pieces.index, SPECIALS))


def sha256(vocab: Vocab) -> str:
    """A fingerprint of the pieces, their order and the case rule."""
    return hashlib.sha256(json.dumps([vocab.lower, vocab.pieces]).encode()).hexdigest()


def normalizer(lower: bool) -> normalizers.Normalizer:
    """BasicTokenizer's cleaning; BertNormalizer alone departs from it in two places."""
    cased = r"[\p{Cased}&&[^\p{Case_Ignorable}]]"
    rules = [
        # BertNormalizer's own clean_text drops private-use characters as well, Google's does not.
        normalizers.Replace(tokenizers.Regex(r"[[\p{Cc}\p{Cf}\x{FFFD}]&&[^\t\n\r]]"), ""),
        normalizers.BertNormalizer(clean_text=False, handle_chinese_chars=True, strip_accents=None, lowercase=lower),
    ]
    if lower:
        # Python's str.lower ends a Greek word in a final sigma, Rust's char by char does not.
        final = rf"(?<={cased}\p{{Case_Ignorable}}*)Σ(?!\p{{Case_Ignorable}}*{cased})"
        rules.insert(1, normalizers.Replace(tokenizers.Regex(final), "ς"))
    return normalizers.Sequence(rules)


def tokenizer(vocab: Vocab) -> tokenizers.Tokenizer:
    """The tokenizer of raw text: "[MASK]" in a corpus is four ordinary words, never id 103."""
    made = tokenizers.Tokenizer(
        models.WordPiece(
            {piece: i for i, piece in enumerate(vocab.pieces)},
            unk_token="[UNK]",
            max_input_chars_per_word=MAX_CHARS_PER_WORD,
        )
    )
    made.normalizer = normalizer(vocab.lower)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(prefix="##")
    return made


def save(vocab: Vocab, directory: str | Path, *, max_length: int = 512) -> None:
    """`directory` holds vocab.txt, tokenizer.json and tokenizer_config.json for transformers.

    max_length: tokens that the model takes, where there is one yet. tokenizer.json is the tokenizer
    of `tokenizer`, with the special pieces registered and [CLS] A [SEP] B [SEP] put around what it
    encodes.
    """
    directory = epath.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocab.pieces), encoding="utf-8")
    special = ids(vocab)
    full = tokenizer(vocab)
    full.add_special_tokens(list(SPECIALS))
    full.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", special.cls), ("[SEP]", special.sep)],
    )
    (directory / "tokenizer.json").write_text(full.to_str(pretty=True), encoding="utf-8")
    config = {f"{name[1:-1].lower()}_token": name for name in SPECIALS} | {
        "do_lower_case": vocab.lower,
        "model_max_length": max_length,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        # "BertTokenizer" would make transformers 5 rebuild it by other rules than tokenizer.json's.
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")


def load(path: str | Path) -> Vocab:
    """The vocabulary of a vocab.txt, or of a directory with vocab.txt or tokenizer.json.

    Case is taken from tokenizer.json or tokenizer_config.json; a bare vocab.txt without any
    upper-case letter is uncased. Raises UserError for what is not a BERT WordPiece.
    """
    path = epath.Path(path)
    pieces, lower = _read_directory(path) if path.is_dir() else (_read_txt(path), None)
    _check(pieces, path)
    if lower is None:
        lower = all(piece in SPECIALS or piece == piece.lower() for piece in pieces)
    return Vocab(pieces, lower)


def _read_directory(path: Path) -> tuple[tuple[str, ...], bool | None]:
    """Pieces and case of a tokenizer directory, whose files must agree with each other."""
    txt, full, config = (path / name for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"))
    if not txt.exists() and not full.exists():
        raise command.UserError(f"{path} has no vocab.txt and no tokenizer.json; {NEEDED}")
    lower = _read_json(config).get("do_lower_case") if config.exists() else None
    if not full.exists():
        return _read_txt(txt), lower
    pieces, json_lower = _read_tokenizer_json(full)
    if lower is not None and lower != json_lower:
        raise command.UserError(f"{full} says lowercase={json_lower} and {config} do_lower_case={lower}; mend one")
    if txt.exists() and _read_txt(txt) != pieces:
        raise command.UserError(f"{txt} and {full} hold different pieces; delete the wrong one")
    return pieces, json_lower


def _read_txt(path: Path) -> tuple[str, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise command.UserError(f"tokenizer {path} does not exist; check the path") from None
    except UnicodeDecodeError:
        raise command.UserError(f"{path} is not UTF-8 text; {NEEDED}") from None
    return tuple(text.removesuffix("\n").split("\n"))


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise command.UserError(f"{path} is not JSON; fetch or make it again") from None
    if not isinstance(content, dict):
        raise command.UserError(f"{path} is not a JSON object; fetch or make it again")
    return content


def _read_tokenizer_json(path: Path) -> tuple[tuple[str, ...], bool]:
    """Pieces and case of a tokenizer.json, refused unless its rules are BERT's."""
    content = _read_json(path)
    model = content.get("model") or {}
    # Files of old releases do not name the type, but only WordPiece has this key.
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


def _case(rules: dict | None) -> bool | None:
    """Whether these rules of normalization, ours or BertNormalizer's, lower text; else None."""
    for lower in (True, False):
        bert = (normalizers.BertNormalizer(lowercase=lower, strip_accents=s) for s in (None, lower))
        if rules in [json.loads(rule.__getstate__()) for rule in (normalizer(lower), *bert)]:
            return lower
    return None


def _check(pieces: tuple[str, ...], path: Path) -> None:
    """Raises UserError unless `pieces` can be a BERT vocabulary of uint16 ids."""
    if missing := [name for name in SPECIALS if name not in pieces]:
        raise command.UserError(f"{path} lacks {' '.join(missing)}; {NEEDED}")
    if len(pieces) > MAX_PIECES:
        raise command.UserError(
            f"{path} has {len(pieces):,} pieces, but ids are stored in 16 bits; "
            f"take a model or a vocabulary of at most {MAX_PIECES:,}"
        )
    if len(set(pieces)) < len(pieces) or "" in pieces:
        twice = next(p for i, p in enumerate(pieces) if not p or p in pieces[:i])
        raise command.UserError(
            f"{path} line {pieces.index(twice) + 1} is empty or repeated ({twice!r}); "
            "each line of a vocabulary is one piece of its own"
        )
    if pieces[0] != "[PAD]":
        raise command.UserError(f"{path} gives [PAD] the id {pieces.index('[PAD]')}; in BERT's layout [PAD] is id 0")
