"""Pieces are Google's on any text, training repeats itself, and only BERT tokenizers are read."""

import json
import subprocess
import sys
import unicodedata

from helpers import tiny_runs
import hypothesis
from hypothesis import strategies
import numpy as np
import pytest
import tokenizers

from bert_tpu.core import command
from bert_tpu.corpus import prepare
from bert_tpu.data import token_rows
from bert_tpu.tokenizer import encoding, vocab, wordpiece
from tools import show_batches

LETTERS = "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789.,!?'\"-()[]σςιυφο\ue000中日é"
PIECES = (
    *wordpiece.LAYOUT,
    *LETTERS,
    *(f"##{c}" for c in LETTERS),
    *("the", "un", "##want", "##ed", "run", "##ning", "low", "##er", "hello", "##ος", "cafe", "CLS"),
)
CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


def google_words(text: str, lower: bool) -> list[str]:
    """BasicTokenizer of google-research/bert, tokenization.py, transcribed."""
    cleaned = ""
    for char in text:
        kind = unicodedata.category(char)
        if char in "\t\n\r" or kind == "Zs":
            cleaned += " "
        elif kind not in ("Cc", "Cf") and char != "\ufffd":
            cjk = any(first <= ord(char) <= last for first, last in CJK)
            cleaned += f" {char} " if cjk else char
    words = []
    for word in cleaned.split():
        if lower:
            word = unicodedata.normalize("NFD", word.lower())
            word = "".join(char for char in word if unicodedata.category(char) != "Mn")
        for char in word:
            ascii_mark = char.isascii() and not char.isalnum()
            mark = ascii_mark or unicodedata.category(char).startswith("P")
            words.append(f" {char} " if mark else char)
        words.append(" ")
    return "".join(words).split()


def google_pieces(text: str, lower: bool) -> list[str]:
    """WordpieceTokenizer after BasicTokenizer: the longest piece first, from the left."""
    pieces = []
    for word in google_words(text, lower):
        word_pieces, start = [], 0
        while start < len(word) <= 200:
            prefix = "##" if start else ""
            stops = range(len(word), start, -1)
            stop = next((s for s in stops if prefix + word[start:s] in PIECES), None)
            if stop is None:
                break
            word_pieces.append(prefix + word[start:stop])
            start = stop
        pieces += word_pieces if start == len(word) else ["[UNK]"]
    return pieces


def known_to_both(char: str) -> bool:
    """True for characters of Unicode as of 2015, on which all tables in use agree."""
    return ord(char) < 0x530 or 0x2000 <= ord(char) < 0x2E00 or 0x3041 <= ord(char) < 0x9FD0


TEXTS = [
    "UNwantéd,running", "ah博推zz", " \tHeLLo!how  \n Are yoU?  ", "HÄLLO café Ångström naïve",
    "[MASK] [CLS] and [unused3] in raw text", "a" * 100, "a" * 101, "b" * 200, "b" * 201, "",
    "zero\u200bwidth soft\u00adhyphen \ufeffbom nul\x00l bell\x07 \ufffd", "\ue000 use \uf8ff",
    "ΣΊΣΥΦΟΣ ς Σ ΟΔΟΣ, ΑΣ. Σ'Σ", "ΑΣ\u0301 ΑΣ\u0301Α ʰΣ", "İstanbul ǅ ß ẞ", "☃️ ½ ² e\u0301 ﬁ Ⅷ",
    "🤗 👩\u200d👩\u200d👧", "don't—“stop”…", "中文abc日本語",
    "a\u2028b\u2029c\x0bd\x0ce\x85f\u3000g\xa0h",
    "Iñtërnâtiônàlizætiøn", "##ed ## #", "$1,234.56 & 7%", "`a|b~c^d=e+f<g>h", "ｆｕｌｌ　ｗｉｄｔｈ！",
    "한국어", "ไทย", "हिन्दी", "\t\r\n",
]  # fmt: skip


@pytest.mark.parametrize("lower", [True, False])
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_pieces_are_googles_on_chosen_texts(text, lower):
    tokenizer = vocab.tokenizer(vocab.Vocab(PIECES, lower))
    assert tokenizer.encode(text, add_special_tokens=False).tokens == google_pieces(text, lower)


@pytest.mark.parametrize("lower", [True, False])
@hypothesis.settings(max_examples=300, deadline=None)
@hypothesis.given(
    text=strategies.text(strategies.characters(codec="utf-8").filter(known_to_both))
    | strategies.text(LETTERS + " ΣΣΑʰ'.\u0301:\u00ad\u200d")
)
def test_pieces_are_googles_on_any_text(text, lower):
    tokenizer = vocab.tokenizer(vocab.Vocab(PIECES, lower))
    assert tokenizer.encode(text, add_special_tokens=False).tokens == google_pieces(text, lower)


@pytest.mark.parametrize("lower", [True, False])
def test_saved_tokenizer_has_the_same_rules_and_knows_the_special_pieces(tmp_path, lower):
    vocabulary = vocab.Vocab(PIECES, lower)
    vocab.save(vocabulary, tmp_path)
    saved = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in TEXTS:
        if "[MASK]" not in text:
            assert saved.encode(text, add_special_tokens=False).tokens == google_pieces(text, lower)
    pair = saved.encode("un [MASK]", "low")
    assert pair.tokens == ["[CLS]", "un", "[MASK]", "[SEP]", "low", "[SEP]"]
    assert pair.type_ids == [0, 0, 0, 0, 1, 1]
    assert vocab.load(tmp_path) == vocabulary
    (tmp_path / "vocab.txt").unlink()
    assert vocab.load(tmp_path) == vocabulary


def test_transformers_loads_a_saved_tokenizer_with_our_rules(tmp_path):
    transformers = pytest.importorskip("transformers")
    vocab.save(vocab.Vocab(PIECES, True), tmp_path)
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.tokenize("ΟΔΟΣ " + "b" * 150) == google_pieces("ΟΔΟΣ " + "b" * 150, True)
    pair = loaded("un [MASK]", "low")
    assert pair["token_type_ids"] == [0, 0, 0, 0, 1, 1]
    assert pair["input_ids"][0] == loaded.cls_token_id == 101
    assert (loaded.pad_token_id, loaded.unk_token_id, loaded.mask_token_id) == (0, 100, 103)
    again = transformers.BertTokenizer.from_pretrained(tmp_path)
    assert again("un [MASK]", "low")["input_ids"] == pair["input_ids"]


@pytest.mark.parametrize("strip_accents", [True, False])
@pytest.mark.parametrize("chinese", [True, False])
def test_the_class_berttokenizer_reads_our_rules(tmp_path, strip_accents, chinese):
    transformers = pytest.importorskip("transformers")
    ours = vocab.Vocab((*PIECES, "café", "cafe", "中", "日", "中日"), False)
    ours = ours._replace(rules=ours.rules._replace(strip_accents=strip_accents, chinese=chinese))
    vocab.save(ours, tmp_path)
    wanted = ["cafe" if strip_accents else "café", *(["中", "日"] if chinese else ["中日"])]
    assert transformers.BertTokenizer.from_pretrained(tmp_path).tokenize("café 中日") == wanted
    assert vocab.tokenizer(ours).encode("café 中日", add_special_tokens=False).tokens == wanted


@pytest.mark.parametrize("lower", [True, False])
def test_the_cleaning_of_earlier_releases_is_read_as_googles_and_is_not_written_any_more(tmp_path, lower):
    """JavaScript has neither its && nor its \\x{FFFD}, so transformers.js before 4.3 refused it."""
    vocab.save(vocab.Vocab(PIECES, lower), tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text())
    steps = content["normalizer"]["normalizers"]
    patterns = [step["pattern"]["Regex"] for step in steps if "pattern" in step]
    assert len(patterns) == 1 + lower
    assert not [pattern for pattern in patterns if "&&" in pattern or r"\x" in pattern]
    steps[0]["pattern"]["Regex"] = r"[[\p{Cc}\p{Cf}\x{FFFD}]&&[^\t\n\r]]"
    if lower:
        cased = r"[\p{Cased}&&[^\p{Case_Ignorable}]]"
        steps[1]["pattern"]["Regex"] = rf"(?<={cased}\p{{Case_Ignorable}}*)Σ(?!\p{{Case_Ignorable}}*{cased})"
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    assert vocab.load(tmp_path) == vocab.Vocab(PIECES, lower)


def test_case_of_a_bare_vocab_txt_follows_from_its_letters(tmp_path):
    path = tmp_path / "vocab.txt"
    for extra, lower in (("a\nb\n中\n", True), ("a\nB\n", False)):
        path.write_text("\n".join(wordpiece.LAYOUT) + "\n" + extra, encoding="utf-8")
        assert vocab.load(path).lower is vocab.load(tmp_path).lower is lower


def test_hash_depends_on_pieces_order_and_case():
    one = vocab.Vocab(PIECES, True)
    others = [one._replace(lower=False), one._replace(pieces=PIECES[::-1])]
    others.append(one._replace(pieces=(*PIECES[:-2], PIECES[-2] + PIECES[-1])))
    assert len({vocab.sha256(v) for v in (one, *others)}) == 4
    assert vocab.ids(one) == (0, 100, 101, 102, 103)


def broken(tmp_path, edit) -> str:
    """The error message about a saved tokenizer after `edit(directory)`."""
    vocab.save(vocab.Vocab(PIECES, True), tmp_path)
    edit(tmp_path)
    with pytest.raises(command.UserError) as complaint:
        vocab.load(tmp_path)
    return str(complaint.value)


def edit_json(name, **changes):
    """An edit that sets keys of `name`; `model=dict(...)` updates the dict there."""

    def edit(directory):
        content = json.loads((directory / name).read_text())
        for key, value in changes.items():
            merge = isinstance(value, dict) and isinstance(content.get(key), dict)
            content[key] = content[key] | value if merge else value
        (directory / name).write_text(json.dumps(content))

    return edit


def only(*names):
    """Returns an edit that puts these files in place of all others."""

    def edit(directory):
        for path in directory.iterdir():
            path.unlink()
        for name in names:
            (directory / name).write_text("x")

    return edit


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (edit_json("tokenizer_config.json", do_lower_case=False), "do_lower_case=False"),
        (edit_json("tokenizer.json", normalizer={"type": "NFC"}), "normalizes"),
        (edit_json("tokenizer.json", normalizer=None), "normalizes"),
        (edit_json("tokenizer.json", model={"type": "BPE"}), "BPE"),
        (edit_json("tokenizer.json", model={"continuing_subword_prefix": "@"}), "##"),
        (edit_json("tokenizer.json", model={"vocab": {"[PAD]": 0, "a": 2}}), "gaps"),
        (edit_json("tokenizer.json", pre_tokenizer={"type": "Whitespace"}), "splits"),
        (lambda d: (d / "tokenizer.json").write_text("{"), "not JSON"),
        (lambda d: (d / "vocab.txt").write_text("a\n"), "different"),
        (only("my-vocab.txt"), "but my-vocab.txt, which may be renamed to vocab.txt"),
        (only("spm.model"), "but spm.model, a SentencePiece tokenizer"),
        (only("vocab.json"), "but vocab.json, whose pieces can be written to a vocab.txt"),
        (only("vocab.json", "merges.txt"), "but merges.txt, a part of a byte-pair tokenizer"),
        (lambda d: [p.unlink() for p in d.glob("*o*")], "no vocab.txt"),
    ],
)
def test_a_directory_without_a_bert_tokenizer_is_refused(tmp_path, edit, words):
    assert words in broken(tmp_path, edit)


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (("[PAD]", "[UNK]", "a"), "lacks [CLS] [SEP] [MASK]"),
        ((*PIECES, "run"), "'run'"),
        ((*PIECES, "", "x"), "empty or repeated"),
    ],
)
def test_a_vocab_txt_without_a_bert_vocabulary_is_refused(tmp_path, pieces, words):
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    with pytest.raises(command.UserError, match=r"vocab\.txt") as complaint:
        vocab.load(path)
    assert words in str(complaint.value)


def test_a_missing_or_binary_vocab_is_refused_in_one_sentence(tmp_path):
    with pytest.raises(command.UserError, match="does not exist"):
        vocab.load(tmp_path / "nowhere")
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(command.UserError, match="not UTF-8"):
        vocab.load(tmp_path / "vocab.txt")
    for text, words in (
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("\n<!DOCTYPE html>\n<html>", "is a web page; download the raw file"),
        ("", "vocab.txt is empty; fetch it again"),
        ("Entry not found", "is a server's error message"),
        ("[PAD]\t0\n[UNK]\t1\n", r"line 1 has 2 columns \('\[PAD\]\\t0'\)"),
        ("\ufeff[PAD]\n", "byte order mark"),
        ("[PAD]\r[UNK]\r", "line 1 has a carriage return"),
    ):
        (tmp_path / "vocab.txt").write_text(text, encoding="utf-8", newline="")
        with pytest.raises(command.UserError, match=words):
            vocab.load(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    for text, words in (("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"), ("<html><head>", "web page")):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(command.UserError, match=words):
            vocab.load(tmp_path)


SENTENCES = [f"The {a} fox of {b}land jumped; Größe {i}!" for i, (a, b) in enumerate(
    (x + y, y + x + z) for x in ("br", "qui", "sl") for y in ("own", "ck", "ow") for z in "aeiou"
)]  # fmt: skip


def test_training_gives_the_same_vocabulary_in_every_process():
    # The library's hash maps are seeded differently in each process, and its threads race.
    program = (
        "import sys, json; from bert_tpu.tokenizer import vocab, wordpiece;"
        "lines = json.load(sys.stdin);"
        "print(vocab.sha256(wordpiece.train(lambda: lines, 225)))"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(SENTENCES),
            env={"TOKENIZERS_PARALLELISM": threads, "PATH": ""},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for threads in ("true", "false", "true", "false")
    }
    assert len(runs) == 1


@pytest.mark.parametrize("lower", [True, False])
def test_a_trained_vocabulary_has_berts_layout_and_encodes_its_text(tmp_path, lower):
    vocabulary = wordpiece.train(lambda: SENTENCES, 225, lower=lower)
    assert len(vocabulary.pieces) == 225
    assert vocabulary.pieces[:104] == wordpiece.LAYOUT
    assert ("T" in vocabulary.pieces) is not lower
    assert ("ö" in vocabulary.pieces) is not lower
    assert "##;" not in vocabulary.pieces  # punctuation stands alone
    codes = vocab.tokenizer(vocabulary).encode_batch(SENTENCES)
    assert not any("[UNK]" in code.tokens for code in codes)
    assert any(len(piece.lstrip("#")) > 3 for piece in vocabulary.pieces[104:])
    vocab.save(vocabulary, tmp_path)
    assert vocab.load(tmp_path) == vocabulary


def test_a_script_of_many_signs_gets_them_all_but_the_rarest():
    signs = [chr(0x4E00 + i) for i in range(3000)]
    text = ["".join(signs)] * 20 + ["𠀀"]  # the last one is once among 60,001
    vocabulary = wordpiece.train(lambda: text, 104 + 2999)  # 0.9995 of the text; the library's own limit is 1,000
    assert len(set(signs) & set(vocabulary.pieces)) == 2999
    assert "𠀀" not in vocabulary.pieces


def test_rare_letters_beyond_the_alphabet_become_unknown():
    vocabulary = wordpiece.train(lambda: ["abab baba", "ab 中 q"], 109, alphabet_size=2, coverage=0.0)
    assert vocabulary.pieces[104:108] == ("a", "b", "##a", "##b")


@pytest.mark.parametrize(
    ("lines", "size", "words"),
    [([], 200, "no text"), ([" \n"], 200, "no text"), (SENTENCES, 120, "at least"),
     (SENTENCES, 9000, "at most")],
)  # fmt: skip
def test_a_size_that_the_text_cannot_fill_is_refused(lines, size, words):
    with pytest.raises(command.UserError, match=words):
        wordpiece.train(lambda: lines, size)


def test_a_size_that_ids_have_no_room_for_is_refused_before_text_is_read():
    with pytest.raises(command.UserError, match=r"vocab_size 65,537 is too large, .* ask for at most 65,536"):
        wordpiece.train(lambda: pytest.fail("the text was read"), 65_537)


def test_the_largest_vocabulary_keeps_its_last_id_from_text_to_batch(tmp_path):
    """65,536 pieces have the ids 0 to 65,535, all values of 16 bits."""
    pieces = [*wordpiece.LAYOUT, *"abcdefghijklmnopqrstuvwxyz."]
    pieces += [f"w{i}" for i in range(65_535 - len(pieces))]
    vocab.save(vocab.Vocab((*pieces, "last"), lower=True), tmp_path / "tokenizer")
    text = "\n\n".join(f"Last w{i} last.\nLast w{i + 1} last." for i in range(80))
    (tmp_path / "text.txt").write_text(text)
    lock = prepare.prepare([str(tmp_path / "text.txt")], tmp_path / "tokenizer", tmp_path / "corpus", workers=1)
    assert lock.vocab_size == 65_536
    keys = {"data.dir": str(lock.directory), "data.seq_lens": (16,), "data.max_predictions": (3,), "batch_size": 8}
    cfg = tiny_runs.configured(keys, **{"model.vocab_size": 65_536, "num_steps": 4})
    seen, masked = set(), set()
    for _, _, batch in show_batches.batches(cfg, 0, 4, 1):
        seen |= {*batch["input_ids"].flat}
        masked |= {*batch["masked_ids"].flat}
    assert 65_535 in seen & masked
    assert min(seen | masked) == 0


def test_a_larger_vocabulary_is_read_with_32_bits_but_makes_no_corpus(tmp_path):
    pieces = [*wordpiece.LAYOUT, *"abcdefghijklmnopqrstuvwxyz."]
    pieces += [f"w{i}" for i in range(65_536 - len(pieces))]
    vocab.save(vocab.Vocab((*pieces, "last"), lower=True), tmp_path / "tokenizer")
    vocabulary = vocab.load(tmp_path / "tokenizer")
    assert vocab.id_dtype(vocabulary) == np.uint32
    (code,) = encoding.Encoder(vocabulary).encode(["last."])
    assert np.frombuffer(code, np.uint32).tolist() == [65_536, pieces.index(".")]
    rows = token_rows.encode(["last"], ["last ."], np.zeros(1), max_length=16, vocabulary=vocabulary)
    assert rows.ids.tolist() == [101, 65_536, 102, 65_536, pieces.index("."), 102]
    (tmp_path / "text.txt").write_text("Last.\n")
    with pytest.raises(command.UserError, match=r"tokenizer has 65,537 pieces, but a corpus stores ids in 16 bits; "):
        prepare.prepare([str(tmp_path / "text.txt")], tmp_path / "tokenizer", tmp_path / "corpus", workers=1)


ACCENTED = "äëïöüáéíóú"


def test_a_vocab_txt_next_to_other_rules_is_refused(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*wordpiece.LAYOUT, *ACCENTED]))
    assert vocab.load(path).rules.strip_accents is None
    config = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "strip_accents": False}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(command.UserError, match="keeps accents, and alone it drops accents; give the folder"):
        vocab.load(path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"strip_accents": None}))
    assert vocab.load(path) == vocab.load(tmp_path)
    (tmp_path / "added_tokens.json").write_text('{"<e>": 114}')
    with pytest.raises(command.UserError, match="has 1 added token"):
        vocab.load(path)


def test_pieces_that_no_text_gives_are_counted():
    lost = vocab.unreachable(vocab.Vocab((*wordpiece.LAYOUT, "a", *ACCENTED, *(f"##{c}" for c in ACCENTED)), True))
    assert lost.startswith("20 of its 125 pieces")
    assert '"strip_accents": false' in lost
    kept = vocab.normalization.Rules(strip_accents=False)
    assert not vocab.unreachable(vocab.Vocab((*wordpiece.LAYOUT, *ACCENTED), True, kept))
    assert not vocab.unreachable(vocab.Vocab((*wordpiece.LAYOUT, *ACCENTED[:5]), True))
    assert not vocab.unreachable(vocab.Vocab((*wordpiece.LAYOUT, *"中日ßø", "##中日", "[ENT]"), True))
    capitals = vocab.unreachable(vocab.Vocab((*wordpiece.LAYOUT, *"ABCDEFGH"), True))
    assert "lowers text" in capitals
    assert '"do_lower_case": false' in capitals
