"""Tokenizer folders as transformers writes them, and as older releases did, with random switches and added tokens."""

import copy
import json
import pathlib
from typing import Any, NamedTuple

from hypothesis import strategies
import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from bert_tpu.tokenizer import encoding, vocab

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEÄÖäöéαβσς中日文の아ⒶⓐㄱЖж0123456789.,:;!?'-_/()[]<>@#$\ue000🤗"
WORDS = (
    "covid", "boat", "Boat", "new", "##boat", "COVID", "naive", "url", "https", "##ing", "中文", "##文", "ent", "cls",
)  # fmt: skip
PROBE = [
    "The naïve café in Köln: ÄÖÜ äöü ÀÉ é e\u0301 Ångström ΑΣ ΟΔΟΣ İstanbul",
    "中文 日本語の文 한국어 아 mixed中文abc ⒶⓐЖж",
    "emoji 🤗 👩\u200d👩\u200d👧 ☃️ \ue000 zero\u200bwidth soft\u00adhyphen \ufffd tab\tnl\nnbsp\xa0end",
    "https://example.org/a_b?c=d&e#f user@example.org $1,234.56 COVID-19 covid-19 Covid19",
    "[CLS] [MASK] [mask] [SEP][PAD] [UNK] <s> <pad> <mask> [unused1] ##ing # ##",
    "a" * 100 + " " + "a" * 101 + " " + "b" * 200 + " " + "b" * 201,
    "",
    "  spaces   everywhere  ",
]


class Drawn(NamedTuple):
    """A folder's contents: names of files and what they have."""

    files: dict[str, Any]
    added: list[str]  # the texts of the tokens that are added


def write(folder: pathlib.Path, files: dict[str, Any]) -> None:
    """Writes the files to `folder`: lists of lines as text, dictionaries as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        text = json.dumps(content) if isinstance(content, dict) else "".join(f"{line}\n" for line in content)
        (folder / name).write_text(text, encoding="utf-8")


def probe(added: list[str]) -> list[str]:
    """PROBE, and texts with each added token alone, in words, in capitals and between spaces."""
    texts = [f"{t} x{t}y {t}{t} {t.upper()} {t.lower()} {t.title()} a {t} b({t}) é{t}中{t}\u0301" for t in added]
    return [*PROBE, *texts, " ".join(added), "".join(added)]


TOKEN_TEXT = strategies.sampled_from(
    [
        "[ENT]", "covid-19", "COVID-19", "newboat", "Boat", "boat", "naïve", "中文", "日 本", "<ent>", "[unused1]",
        "🤗", "two words", "éa", "Ä", "##ing", "x", "https://", "[E1]", "[e1]", "@user", "a_b", " lead", "tail ",
        "\ue000", "ΑΣ", "[MASK]x", "ㄱ", "がん",
    ]
) | strategies.text("ab[]ÄéB中 -", min_size=1, max_size=4)  # fmt: skip
TOKEN = strategies.fixed_dictionaries(
    {
        "content": TOKEN_TEXT,
        **{flag: strategies.booleans() for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")},
    }
)


def assert_same_ids(folder: pathlib.Path, added: list[str], must_load: bool = True) -> vocab.Vocab:
    """Loads `folder`, which has a config.json, and compares ids of the probe with transformers.

    The ids of the folder in transformers are those of the folder here, of what is saved here in transformers and, if
    a text has no special piece, of text in a corpus.

    must_load: whether transformers must take the folder
    """
    transformers = pytest.importorskip("transformers")
    vocabulary = vocab.load(folder)
    try:
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
    except Exception:
        if must_load:
            raise
        return vocabulary
    assert len(theirs) == len(vocabulary.pieces)
    saved = folder.parent / f"{folder.name} saved"
    vocab.save(vocabulary, saved)
    names = vocab.special_tokens_map(vocabulary)
    write(saved, {"config.json": {"model_type": "bert"}, "special_tokens_map.json": names})  # as hf.save does
    assert vocab.load(saved) == vocabulary
    exported = transformers.AutoTokenizer.from_pretrained(saved)
    marked, raw = vocab.marked_tokenizer(vocabulary), vocab.tokenizer(vocabulary)
    encoder, special = encoding.Encoder(vocabulary), vocab.ids(vocabulary)
    for text in probe(added):
        ids = theirs(text)["input_ids"]
        assert [special.cls, *marked.encode(text).ids, special.sep] == ids, text
        assert exported(text)["input_ids"] == ids, text
        (code,) = encoder.encode([text])
        raw_ids = raw.encode(text).ids
        assert np.frombuffer(code, encoder.dtype).tolist() == raw_ids, text
        found = {token.content for token in vocabulary.added} & {*vocabulary.specials}
        assert found or any(name in text for name in vocabulary.specials) or raw_ids == ids[1:-1], text
    pairs = [each("a boat", "new", return_token_type_ids=True) for each in (exported, theirs)]
    assert pairs[0] == pairs[1]
    return vocabulary


NAMES = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
BERTS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
OTHERS = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")


def base_pieces(specials: tuple[str, ...], more: list[str]) -> list[str]:
    """WordPiece's pieces: special ones, an unused one, letters, words and `more`."""
    pieces = [*specials, "[unused1]", *LETTERS, *(f"##{c}" for c in LETTERS), *WORDS, *more]
    return list(dict.fromkeys(pieces))


@strategies.composite
def drawn(draw: strategies.DrawFn) -> Drawn:
    """A folder in one of the styles of releases 2 to 5 of transformers; it may contradict itself."""
    renamed = [draw(strategies.booleans()) if draw(strategies.integers(0, 3)) == 0 else False for _ in NAMES]
    specials = tuple(b if is_new else a for a, b, is_new in zip(BERTS, OTHERS, renamed, strict=True))
    tokens = draw(strategies.lists(TOKEN, max_size=4, unique_by=lambda token: token["content"]))
    texts = [token["content"] for token in tokens]
    in_vocab = [text for text in texts if draw(strategies.integers(0, 2)) == 0 and "\n" not in text]
    pieces = base_pieces(specials, [text for text in in_vocab if text == text.strip() and " " not in text])
    ids = {text: i for i, text in enumerate(pieces)}
    for text in texts:
        ids.setdefault(text, len(ids))
    switches = {
        "do_lower_case": draw(strategies.booleans()),
        "strip_accents": draw(strategies.sampled_from([None, True, False])),
        "tokenize_chinese_chars": draw(strategies.booleans()),
    }
    names = dict(zip(NAMES, specials, strict=True))
    said = {name: text for name, text in names.items() if text not in BERTS or draw(strategies.booleans())}
    style = draw(strategies.sampled_from(["txt", "txt_json", "json_class"]))
    where = draw(strategies.sampled_from(["decoder", "added_tokens", "special_map", "json"]))
    config: dict[str, Any] = dict(switches) | {"model_max_length": 512, "never_split": None}
    files: dict[str, Any] = {"config.json": {"model_type": "bert"}}
    if style != "json_class" or draw(strategies.booleans()):
        files["vocab.txt"] = pieces
    kept: list[dict[str, Any]] = []
    if where == "decoder":
        special = [
            {"content": t, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
            for t in specials
        ]
        config["added_tokens_decoder"] = {str(ids[t["content"]]): t for t in [*special, *tokens]}
        kept = [*special, *tokens]
    elif where == "added_tokens":
        files["added_tokens.json"] = {text: ids[text] for text in texts}
    elif where == "special_map":
        form = draw(strategies.sampled_from(["additional_special_tokens", "extra_special_tokens"]))
        files["special_tokens_map.json"] = names | ({form: texts} if texts else {})
    else:
        kept = tokens
    if where != "special_map" and draw(strategies.booleans()):
        form = draw(strategies.sampled_from(["text", "dict"]))
        files["special_tokens_map.json"] = {
            name: text
            if form == "text"
            else {"content": text, "lstrip": True, "normalized": draw(strategies.booleans())}
            for name, text in names.items()
        }
    if style == "txt":
        config["tokenizer_class"] = draw(strategies.sampled_from(["BertTokenizer", "BertTokenizerFast"]))
    else:
        is_json = style == "json_class"
        config["tokenizer_class"] = "PreTrainedTokenizerFast" if is_json else "BertTokenizer"
        max_chars = draw(strategies.sampled_from([100, 200, 7])) if is_json else 100
        files["tokenizer.json"] = full_json(pieces, specials, switches, kept, max_chars)
        said = names if is_json else said
    files["tokenizer_config.json"] = config | said
    return Drawn(files, texts)


def full_json(
    pieces: list[str], specials: tuple[str, ...], switches: dict[str, Any], tokens: list[dict[str, Any]], max_chars: int
) -> dict[str, Any]:
    """A tokenizer.json as the library writes it."""
    numbers = {piece: i for i, piece in enumerate(pieces)}
    full = tokenizers.Tokenizer(models.WordPiece(numbers, unk_token=specials[1], max_input_chars_per_word=max_chars))
    full.normalizer = normalizers.BertNormalizer(
        lowercase=switches["do_lower_case"],
        strip_accents=switches["strip_accents"],
        handle_chinese_chars=switches["tokenize_chinese_chars"],
    )
    full.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    full.decoder = decoders.WordPiece()
    full.add_tokens([tokenizers.AddedToken(**token) for token in tokens])
    (cls, sep) = ((name, numbers[name]) for name in specials[2:4])
    full.post_processor = processors.BertProcessing(sep, cls)
    return json.loads(full.to_str())


ODD = strategies.sampled_from(
    [None, True, False, 0, -1, 1.5, "", "x", "[MASK]", "Boat", [], ["x"], {}, {"a": 1}, {"content": "x"}, [None], [[]]]
).map(copy.deepcopy)  # a value may be changed by the next edit


@strategies.composite
def damaged(draw: strategies.DrawFn) -> Drawn:
    """A folder of `drawn` with one or two JSON values that are taken out, put in or replaced."""
    files, added = draw(drawn())
    files = json.loads(json.dumps(files))
    for _ in range(draw(strategies.integers(1, 2))):
        place = files[
            draw(
                strategies.sampled_from(
                    sorted(name for name in files if name[-5:] == ".json" and "conf" not in name[:4])
                )
            )
        ]
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(strategies.sampled_from([*keys[:40], *keys[-5:]])) if keys else None
            inner = place[key] if keys else None
            if not isinstance(inner, dict | list) or not inner or draw(strategies.integers(0, 3)) == 0:
                break
            place = inner
        deed = draw(strategies.sampled_from(["replace", "delete", "insert"]))
        if deed == "delete" and keys:
            del place[key]
        elif deed == "replace" and keys:
            place[key] = draw(ODD)
        elif isinstance(place, dict):
            place[draw(strategies.sampled_from(["strip_accents", "never_split", "new", "bos_token", "id"]))] = draw(ODD)
    return Drawn(files, added)
