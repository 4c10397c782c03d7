"""A tokenizer from elsewhere gives the ids of transformers, or is refused by name."""

import contextlib
import hashlib
import json
import pathlib
import re
import tempfile

from helpers import foreign_tokenizers
import hypothesis
import pytest

from bert_tpu.core import command
from bert_tpu.tokenizer import added_tokens, normalization, vocab

PIECES = foreign_tokenizers.base_pieces(foreign_tokenizers.BERTS, [])
LOWER = [piece for piece in PIECES if piece in foreign_tokenizers.BERTS or piece == piece.lower()]
BERT = {"config.json": {"model_type": "bert"}}


@hypothesis.settings(max_examples=12, deadline=None)
@hypothesis.given(foreign_tokenizers.drawn())
def test_any_folder_gives_the_ids_of_transformers(drawn):
    with tempfile.TemporaryDirectory() as folder:
        foreign_tokenizers.write(pathlib.Path(folder) / "a", drawn.files)
        try:
            foreign_tokenizers.assert_same_ids(pathlib.Path(folder) / "a", drawn.added)
        except command.UserError as error:
            # With two such tokens, transformers picks one at random.
            assert re.search("which become the same text|an empty text", str(error))  # noqa: PT017


@hypothesis.settings(max_examples=15, deadline=None)
@hypothesis.given(foreign_tokenizers.damaged())
def test_a_folder_with_odd_values_is_refused_or_gives_the_ids_of_transformers(drawn):
    with tempfile.TemporaryDirectory() as folder:
        foreign_tokenizers.write(pathlib.Path(folder) / "a", drawn.files)
        with contextlib.suppress(command.UserError):
            foreign_tokenizers.assert_same_ids(pathlib.Path(folder) / "a", drawn.added, must_load=False)


@pytest.mark.parametrize(
    ("files", "added"),
    [
        ({"tokenizer_config.json": {"do_lower_case": True, "strip_accents": False}}, []),
        ({"tokenizer_config.json": {"do_lower_case": False, "strip_accents": True}}, []),
        ({"tokenizer_config.json": {"do_lower_case": True, "tokenize_chinese_chars": False}}, []),
        ({"added_tokens.json": {"covid-19": len(PIECES), "newboat": len(PIECES) + 1, "[ENT]": len(PIECES) + 2},
          "tokenizer_config.json": {"do_lower_case": True}}, ["covid-19", "newboat", "[ENT]"]),
        ({"added_tokens.json": {"[ENT]": len(PIECES)}, "tokenizer_config.json": {
            "do_lower_case": True, "never_split": ["[ENT]", "[CLS]"], "use_auth_token": False}}, ["[ENT]"]),
        ({"vocab.txt": LOWER}, []),
        ({"vocab.txt": [*PIECES, "\u2028"], "tokenizer_config.json": {"do_lower_case": True}}, []),
        ({"vocab.txt": [f"{piece}\r" for piece in PIECES], "tokenizer_config.json": {"do_lower_case": False}}, []),
    ],
    ids=["accents", "no accents", "chinese", "added", "never split", "defaults", "separators", "crlf"],
)  # fmt: skip
def test_the_switches_of_old_folders_are_those_of_transformers(tmp_path, files, added):
    foreign_tokenizers.write(tmp_path / "a", BERT | {"vocab.txt": PIECES} | files)
    vocabulary = foreign_tokenizers.assert_same_ids(tmp_path / "a", added)
    assert vocabulary.pieces[5] == "[unused1]"


def test_a_folder_that_transformers_saves_is_read_and_saved_again(tmp_path):
    transformers = pytest.importorskip("transformers")
    made = transformers.BertTokenizer(
        {piece: i for i, piece in enumerate(PIECES)}, do_lower_case=True, strip_accents=False
    )
    made.add_tokens(["newboat", transformers.AddedToken("Äb", normalized=False, single_word=True)])
    made.add_special_tokens({"extra_special_tokens": ["[ENT]"], "mask_token": "<mask>"})
    made.save_pretrained(tmp_path / "a")
    foreign_tokenizers.write(tmp_path / "a", BERT)
    vocabulary = foreign_tokenizers.assert_same_ids(tmp_path / "a", ["newboat", "Äb", "[ENT]", "<mask>"])
    assert vocabulary.specials == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "<mask>")
    assert vocab.describe(vocabulary) == (
        f"{len(PIECES) + 4} pieces, uncased, keeps accents, has 4 added tokens ('[MASK]', 'newboat', 'Äb', ...), "
        "has the special pieces [PAD] [UNK] [CLS] [SEP] <mask>"
    )


def test_an_export_keeps_the_role_of_special_tokens_and_the_switches_for_those_who_load_it_by_its_class(tmp_path):
    transformers = pytest.importorskip("transformers")
    foreign_tokenizers.write(tmp_path / "a", BERT)
    made = transformers.BertTokenizer({piece: i for i, piece in enumerate(PIECES)}, strip_accents=False)
    made.add_special_tokens({"extra_special_tokens": ["[ENT]"]})
    made.save_pretrained(tmp_path / "a")
    vocab.save(vocab.load(tmp_path / "a"), tmp_path / "b")
    original, saved, by_class = (
        transformers.AutoTokenizer.from_pretrained(tmp_path / "a"),
        transformers.AutoTokenizer.from_pretrained(tmp_path / "b"),
        transformers.BertTokenizer.from_pretrained(tmp_path / "b"),
    )
    assert set(saved.all_special_tokens) == set(original.all_special_tokens) > {"[ENT]"}
    assert vocab.load(tmp_path / "b") == vocab.load(tmp_path / "a")
    for tokenizer in (saved, by_class):
        assert tokenizer("ÄÖ [ENT] é")["input_ids"] == original("ÄÖ [ENT] é")["input_ids"]


def test_special_tokens_as_transformers_4_writes_them_are_read(tmp_path):
    """It writes them twice: with ids in added_tokens_decoder, and without a type in special_tokens_map.json."""
    transformers = pytest.importorskip("transformers")
    token = {"content": "[ENT]", "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    standard = dict(zip(("pad", "unk", "cls", "sep", "mask"), foreign_tokenizers.BERTS, strict=True))
    names = {f"{name}_token": text for name, text in standard.items()}
    decoder = {str(PIECES.index(text)): token | {"content": text, "special": True} for text in standard.values()} | {
        str(len(PIECES)): token | {"special": True}
    }
    config = names | {
        "tokenizer_class": "BertTokenizer", "do_lower_case": True, "added_tokens_decoder": decoder,
        "additional_special_tokens": ["[ENT]"],
    }  # fmt: skip
    files = {
        "vocab.txt": PIECES, "tokenizer_config.json": config,
        "special_tokens_map.json": names | {"additional_special_tokens": [token]},
    }  # fmt: skip
    foreign_tokenizers.write(tmp_path / "a", BERT | files)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "a").convert_tokens_to_ids("[ENT]") == len(PIECES)
    foreign_tokenizers.assert_same_ids(tmp_path / "a", ["[ENT]"])


def test_typed_special_pieces_are_words_in_a_corpus_and_added_tokens_are_found(tmp_path):
    files = {"vocab.txt": PIECES, "added_tokens.json": {"[ENT]": len(PIECES)}, "tokenizer_config.json": {}}
    files["special_tokens_map.json"] = {"mask_token": {"content": "[MASK]", "lstrip": True, "normalized": True}}
    files["tokenizer_config.json"] = {"do_lower_case": False}
    foreign_tokenizers.write(tmp_path, BERT | files)
    vocabulary = vocab.load(tmp_path)
    tokens = vocab.tokenizer(vocabulary).encode("[MASK] [ENT]a").tokens
    assert tokens == ["[", "[UNK]", "]", "[ENT]", "a"]


REFUSED = [
    ({"tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "mecab"}, "class BertJapaneseTokenizer, and"),
    ({"word_tokenizer_type": "mecab"}, "word_tokenizer_type='mecab'"),
    ({"tokenizer_class": "BertJapaneseTokenizer"}, "class BertJapaneseTokenizer"),
    ({"tokenizer_class": "KoBertTokenizer"}, "class KoBertTokenizer"),
    ({"auto_map": {"AutoTokenizer": ["x.py", None]}}, "auto_map"),
    ({"auto_map": ["x.py", None]}, "auto_map"),
    ({"never_split": ["covid-19"]}, "never_split=['covid-19']"),
    ({"do_basic_tokenize": False}, "do_basic_tokenize=False"),
    ({"mecab_kwargs": {}}, "mecab_kwargs={}"),
    ({"do_lower_case": "yes"}, "do_lower_case='yes'"),
    ({"do_lower_case": None}, "do_lower_case=None"),
    ({"truncation_side": "left"}, "truncation_side='left'"),
    ({"split_special_tokens": True}, "split_special_tokens=True"),
    ({"clean_text": False}, "clean_text=False"),
    ({"tokenizer_class": "PreTrainedTokenizerFast"}, "no tokenizer.json"),
    ({"tokenizer_class": None}, "pieces with capital letters, such as 'A'"),
    ({"mask_token": "<mask>"}, "lacks <mask>"),
    ({"mask_token": {"content": "[MASK]"}}, "the token {'content': '[MASK]'}"),
    ({"mask_token": "[CLS]"}, "BERT needs five"),
    ({"unk_token": None}, "the token None"),
    ({"extra_special_tokens": "[ENT]"}, "special tokens '[ENT]'; write a list"),
    ({"model_max_length": []}, "model_max_length=[]"),
    ({"added_tokens_decoder": {"5000": {"content": "x"}}}, "gives 'x' the id 5000"),
    ({"added_tokens_decoder": {"5": {"content": "x", "shape": 1}}}, "added token 5 {'content': 'x', 'shape': 1}"),
    ({"added_tokens_decoder": [1]}, "added token"),
]


@pytest.mark.parametrize(("config", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_a_setting_that_changes_ids_is_refused_by_name(tmp_path, config, words):
    case = {} if config.get("tokenizer_class", "") is None else {"do_lower_case": False}
    foreign_tokenizers.write(tmp_path, BERT | {"vocab.txt": PIECES, "tokenizer_config.json": case | config})
    with pytest.raises(command.UserError) as complaint:
        vocab.load(tmp_path)
    assert words in str(complaint.value)
    assert "\n" not in str(complaint.value)


def full(**changes):
    """A tokenizer.json of PIECES that keeps case, with some keys changed."""
    switches = {"do_lower_case": False, "strip_accents": None, "tokenize_chinese_chars": True}
    return foreign_tokenizers.full_json(PIECES, foreign_tokenizers.BERTS, switches, [], 100) | changes


FAST = {"tokenizer_class": "PreTrainedTokenizerFast"} | dict(
    zip(foreign_tokenizers.NAMES, foreign_tokenizers.BERTS, strict=True)
)
CASED = {"do_lower_case": False}
EXTRA = {"id": len(PIECES), "content": "x y"} | dict.fromkeys(("lstrip", "rstrip", "single_word", "normalized"), False)
CONTRADICTIONS = [
    ({"tokenizer.json": full()}, "lowercase=False and tokenizer_config.json do_lower_case=True, its default"),
    ({"tokenizer.json": full(), "tokenizer_config.json": CASED | {"strip_accents": True}}, "strip_accents=False and"),
    ({"tokenizer.json": full(), "tokenizer_config.json": FAST | {"do_lower_case": True}}, "do_lower_case=True;"),
    ({"tokenizer.json": full(post_processor=None), "tokenizer_config.json": FAST}, "does not frame texts"),
    ({"tokenizer.json": full(post_processor={"type": "RobertaProcessing"}), "tokenizer_config.json": CASED}, "frame"),
    ({"tokenizer.json": full(post_processor={"type": "TemplateProcessing", "single": [{}], "pair": []}),
      "tokenizer_config.json": CASED}, "frame"),
    ({"tokenizer.json": full(), "tokenizer_config.json": {**FAST, "cls_token": "a"}}, "frames"),
    ({"tokenizer.json": full(added_tokens=False), "tokenizer_config.json": CASED}, "the added token False"),
    ({"tokenizer.json": full(extra=1), "tokenizer_config.json": CASED}, "unknown key 'extra'"),
    ({"tokenizer.json": full(), "tokenizer_config.json": {"tokenizer_class": "TokenizersBackend"}}, "pad_token"),
    ({"tokenizer.json": full(added_tokens=[EXTRA | {"id": 900}]), "tokenizer_config.json": CASED}, "'x y' the id 900"),
    ({"tokenizer.json": full(added_tokens=[EXTRA]), "added_tokens.json": {"new": len(PIECES)}}, "new"),
    ({"vocab.txt": PIECES, "tokenizer_config.json": CASED | {"cls_token": "[CLS]"},
      "special_tokens_map.json": {"cls_token": "[SEP]"}}, "different tokens as cls_token"),
    ({"vocab.txt": PIECES, "tokenizer_config.json": CASED | {"added_tokens_decoder": {}},
      "special_tokens_map.json": {"additional_special_tokens": ["[ENT]"]}}, "names '[ENT]'"),
    ({"vocab.txt": PIECES, "tokenizer_config.json": CASED, "added_tokens.json": {"x": "7"}}, "gives 'x' the id '7'"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "words"), CONTRADICTIONS, ids=[words for _, words in CONTRADICTIONS])
def test_files_that_contradict_each_other_are_refused(tmp_path, files, words):
    if "added_tokens.json" in files and "tokenizer.json" in files:
        files = {"tokenizer_config.json": CASED} | files
    foreign_tokenizers.write(tmp_path, BERT | files)
    with pytest.raises(command.UserError) as complaint:
        vocab.load(tmp_path)
    assert words in str(complaint.value)


def test_the_bare_files_of_google_and_of_the_library_keep_their_rules(tmp_path):
    foreign_tokenizers.write(tmp_path / "google", {"vocab.txt": [*PIECES, "[ENT]"]})
    assert vocab.load(tmp_path / "google")[1:3] == vocab.load(tmp_path / "google" / "vocab.txt")[1:3]
    assert vocab.load(tmp_path / "google").rules.clean == "google"
    foreign_tokenizers.write(tmp_path / "library", {"tokenizer.json": full()})
    assert vocab.load(tmp_path / "library").rules.clean == "transformers"
    (tmp_path / "uncased.txt").write_text("".join(f"{piece}\n" for piece in [*LOWER, "[ENT]"]), encoding="utf-8")
    assert vocab.load(tmp_path / "uncased.txt").lower  # text never gives "[ENT]"


HASH = hashlib.sha256(b'[true, ["[PAD]", "a"]]').hexdigest()


def test_the_hash_of_a_plain_vocabulary_is_as_before_and_depends_on_all_rules():
    plain = vocab.Vocab(("[PAD]", "a"), True)
    assert vocab.sha256(plain) == HASH
    token = added_tokens.AddedToken("a", is_piece=True)
    rules = plain.rules
    others = [rules._replace(clean="keep"), rules._replace(strip_accents=False), rules._replace(chinese=False)]
    changed = [plain._replace(rules=other) for other in (*others, rules._replace(max_chars=100))]
    changed += [plain._replace(added=(token,)), plain._replace(specials=("a",) * 5)]
    assert len({vocab.sha256(each) for each in (plain, *changed)}) == 7


def test_only_what_matters_to_a_model_is_a_difference():
    google = vocab.Vocab(("[PAD]", "a"), True)
    theirs = google._replace(rules=normalization.BERT_TOKENIZER)
    assert vocab.differences(google, theirs) == []
    mask = added_tokens.AddedToken("[MASK]", lstrip=True, special=True, is_piece=True)  # never found in a corpus
    assert vocab.differences(google, theirs._replace(added=(mask,))) == []
    assert vocab.describe(theirs._replace(added=(mask,))) == "2 pieces, uncased"
    kept = theirs._replace(rules=theirs.rules._replace(strip_accents=False, chinese=False))
    assert vocab.differences(kept, google) == [
        ("keeps accents", "drops accents"),
        ("makes no words of CJK characters", "makes words of CJK characters"),
    ]


def test_padding_may_have_any_id_but_not_in_a_corpus(tmp_path):
    files = {"vocab.txt": [*PIECES[1:], "[PAD]"], "tokenizer_config.json": {"do_lower_case": True}}
    foreign_tokenizers.write(tmp_path, BERT | files)
    vocabulary = foreign_tokenizers.assert_same_ids(tmp_path, [])
    with pytest.raises(command.UserError, match=rf"{tmp_path} gives \[PAD\] the id {len(PIECES) - 1}; "):
        vocab.check_corpus_ids(vocabulary, tmp_path)


def test_json_that_is_cut_or_nested_too_deep_is_refused(tmp_path):
    vocab.save(vocab.Vocab(tuple(PIECES), False), tmp_path)
    for text in ("[" * 100_000, json.dumps([1]), '{"model": {', "\x00"):
        (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(command.UserError, match=r"tokenizer\.json is not "):
            vocab.load(tmp_path)
