"""Sentences that are test text are detected, and sentences that only look like it are not."""

import gzip
import json
import re
import textwrap
import unicodedata

import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.corpus import clean, contamination, sentences, store
from bert_tpu.tokenizer import encoding, vocab, wordpiece

WORDS = [f"{a}{b}" for a in ("bran", "stel", "lum", "ork", "tind") for b in ("da", "ko", "mi", "pur", "sel")]
VOCABULARY = vocab.Vocab((*wordpiece.LAYOUT, ".", ",", *WORDS), True)
LONG = " ".join(WORDS[:20]) + "."
SHORT = " ".join(WORDS[5:14]) + "."
TINY = " ".join(WORDS[3:6]) + "."


@pytest.fixture(scope="module")
def encoder():
    return encoding.Encoder(VOCABULARY)


@pytest.fixture
def passages(tmp_path, encoder):
    (tmp_path / "test.tsv").write_text(f"index\tsentence\n0\t{LONG} {TINY}\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "dev.json").write_text(json.dumps({"data": [{"context": SHORT}]}))
    (tmp_path / "train.tsv").write_text(" ".join(WORDS[::-1]))
    return contamination.load(tmp_path, encoder.encode)[0]


def detected(passages, encoder, text):
    codes = encoder.encode(sentences.split(text))
    lengths = np.array([len(code) // 2 for code in codes], np.uint32)
    shard = store.Shard(
        np.frombuffer(b"".join(codes), np.uint16), lengths, np.array([len(codes)], np.uint32), np.zeros(1, np.uint32)
    )
    return contamination.is_test_text(passages, shard).tolist()


def test_a_run_of_test_text_or_a_whole_short_sentence_is_detected(passages, encoder):
    inside = " ".join([*WORDS[9:12], *WORDS[:16], WORDS[24]]) + "."
    assert detected(passages, encoder, inside.upper()) == [True]
    assert detected(passages, encoder, f"{SHORT} {LONG}") == [True, True]


def test_less_than_a_run_a_part_of_a_sentence_and_training_text_are_not(passages, encoder):
    nearly = " ".join([*WORDS[:15], WORDS[24], *WORDS[16:20]]) + "."
    longer = " ".join(WORDS[5:15]) + "."
    for text in (nearly, longer, TINY, " ".join(WORDS[::-1])):
        assert detected(passages, encoder, text) == [False]


def test_a_run_does_not_reach_over_the_end_of_a_sentence(passages, encoder):
    assert detected(passages, encoder, " ".join(WORDS[:12]) + ". " + " ".join(WORDS[12:20]).capitalize() + ".") == [
        False, False,
    ]  # fmt: skip


def write_parquet(path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"label": [1], "answers": [[{"text": LONG}]]}), path)


def write_parquet_of_bytes(path):
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"picture": [b"\xff\xd8"], "text": pyarrow.array([LONG.encode()])}), path)


COLUMNS = "\n".join(f"{word} O" for word in LONG.split()) + "\n\nbranda O\n"
CONLLU = "".join(f"{i}\t{word}\t{word[:3]}\tX\n" for i, word in enumerate(LONG[:-1].split() * 2, 1))
# As UDPipe writes it: a column of positions has more different cells than the words; 1-2 is written, not 1 and 2.
UNIVERSAL = "# text = Brandà is\n1-2\tBrandà is\t_\t_\t_\t_\t_\t_\t_\tTokenRange=0:2\n" + "".join(
    f"{i}\t{word}\t_\tX\t_\t_\t{i - 1}\t_\t_\tTokenRange={i}:{i + 1}\n"
    + "3.1\tunwritten\t_\t_\t_\t_\t_\t_\t_\t_\n" * (i == 3)
    for i, word in enumerate(["a", "b", *LONG[:-1].split()], 1)
)
KINDS = {
    "a.csv": f'1,"{LONG}"\n', "A.CSV": f'1,"{"x" * 200_000}",{LONG}\n', "semicolons.csv": f"id;text\n1;{LONG}\n",
    "rows.csv": f'id,text\n1,"a\nb {LONG}\n\0"\n', "b.jsonl": json.dumps([LONG]) + "\n\n",
    "lines.json": json.dumps({"a": LONG}) + "\n" + json.dumps({"a": TINY}),
    "array.json": json.dumps([{"a": [LONG]}], indent=1),
    "document.jsonl": json.dumps({"data": [{"context": LONG}]}, indent=2), "one.ndjson": json.dumps({"q": LONG}),
    "c.txt": f"\ufeff{LONG}\r\n", "wrapped.txt": "\n".join(textwrap.wrap(" ".join([TINY, LONG] * 4), 60)),
    "d.tsv": f"1\t{LONG}\n", "quoted.tsv": f'1\t"{SHORT}"\n', "e.jsonl.gz": json.dumps({"a": LONG}),
    "f.parquet": write_parquet, "bytes.parquet": write_parquet_of_bytes,
    "words.jsonl": json.dumps({"tokens": LONG.split(), "tags": [0] * 20}), "test.conll": COLUMNS, "words.txt": COLUMNS,
    "words.tsv": COLUMNS.replace(" ", "\t"), "x.conllu": "# text\n" + CONLLU,
    "universal.conllu": UNIVERSAL,
    "constrained.tsv": LONG, "restrain-test.txt": LONG,
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_is_read(tmp_path, encoder, name):
    kind = KINDS[name]
    if callable(kind):
        kind(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(gzip.compress(kind.encode()) if name.endswith(".gz") else kind.encode())
    passages, lines = contamination.load(tmp_path, encoder.encode)
    assert detected(passages, encoder, SHORT if name == "quoted.tsv" else LONG) == [True]
    assert lines[1].startswith(f"  passages: {name} ")


CHINESE = "这是一个很长的句子，用来测试语料库里的标点符号，看看它们会不会被改变。"
VIETNAMESE = "Tiếng Việt có rất nhiều dấu thanh và câu này đủ dài để tìm thấy nó trong văn bản lớn của chúng ta."
MAIL = "\n".join(textwrap.wrap(" ".join([LONG, SHORT, LONG.capitalize(), SHORT.capitalize()] * 3), 60))


@pytest.mark.parametrize(
    ("text", "normal_form"),
    [
        (CHINESE, "NFC"), (CHINESE, "NFKC"), (unicodedata.normalize("NFD", VIETNAMESE), "NFC"),
        (unicodedata.normalize("NFD", VIETNAMESE), "NFKC"), (VIETNAMESE, "none"), (MAIL, "NFC"),
    ],
)  # fmt: skip
def test_text_that_prepare_changes_is_detected_in_its_new_form(tmp_path, text, normal_form):
    letters = sorted({letter for letter in text if letter.isalpha()} | set("，。,."))
    pieces = (*wordpiece.LAYOUT, *WORDS, *letters, *(f"##{letter}" for letter in letters))
    encoder = encoding.Encoder(vocab.Vocab(pieces, lower=False))
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": text}))
    passages, _ = contamination.load(tmp_path, encoder.encode, normal_form)
    of_corpus, _ = clean.to_sentences(text, normal_form, keep_licence=False, language="")
    found = detected(passages, encoder, "\n".join(of_corpus))
    assert found == [True] * len(found)


def test_a_few_wrapped_lines_of_a_longer_document_are_detected(tmp_path, encoder):
    (tmp_path / "test.jsonl").write_text(json.dumps({"question": "\n".join(textwrap.wrap(LONG, 60))}))
    passages, _ = contamination.load(tmp_path, encoder.encode)
    assert detected(passages, encoder, LONG) == [True]


def test_what_was_read_and_what_was_not_is_listed(tmp_path, encoder):
    for name in ("dev.tsv", "train.tsv", "hans/train_set/0.jsonl", "README.md", ".git/config", "labels.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text(LONG if name == "dev.tsv" else "1")
    lines = contamination.load(tmp_path, encoder.encode)[1]
    assert lines == [
        f"test text of {tmp_path}: 6 passages (runs of 16 tokens, and shorter sentences of 8 or more) in 1 file",
        "  passages: dev.tsv 6",
        "  without a passage: labels.tsv",
        "  left out, training text: hans/train_set/0.jsonl, train.tsv",
        "  left out, no test text: .git/config, README.md",
    ]
    (tmp_path / "dev.tsv").write_text("1")
    with pytest.raises(command.UserError, match="holds no sentence of 8 tokens or more"):
        contamination.load(tmp_path, encoder.encode)


def test_a_path_that_is_no_folder_of_benchmarks_is_named(tmp_path, encoder):
    (tmp_path / "dev.tsv").write_text(LONG)
    for name, fault in (("none", "none does not exist"), ("dev.tsv", "dev.tsv is a file: name its folder")):
        with pytest.raises(command.UserError, match=fault):
            contamination.load(tmp_path / name, encoder.encode)


FAULTS = {
    "train.tsv": (LONG.encode(), "holds no test data (left out as training files: 1)"),
    "dev.json": (b"{", "dev.json line 1 is not valid JSON"),
    "deep.json": (b"[" * 100_000, "deep.json line 1 is not valid JSON (it is nested too deeply)"),
    "dev.jsonl": (b'{"a": 1}\n\n{"a": \n', "dev.jsonl line 3 is not valid JSON"),
    "open.csv": (f'a,b\n1,2\n3,"{LONG}\n4,5\n'.encode(), "open.csv line 3 begins a row that is not CSV ("),
    "stray.csv": (b'a,b\n1,"two" three\n', "stray.csv line 2 begins a row that is not CSV ("),
    "test.xlsx": (b"PK\x03\x04", "test.xlsx is none of .tsv, .csv"),
    "test.json": (b"PK\x03\x04....", "test.json is a zip archive: unpack it"),
    "wide.tsv": (LONG.encode("utf-16"), "wide.tsv is UTF-16"),
    "latin.tsv": ("Müller war hier. Größe! ".encode("latin-1") * 20, "latin.tsv line 1 is not UTF-8"),
    "test.parquet": (b"PAR1", "test.parquet is not sound Parquet ("),
    "cut.txt.gz": (gzip.compress(LONG.encode())[:-9], "cut.txt.gz is damaged or cut short"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_file_that_cannot_be_read_in_full_is_named(tmp_path, encoder, name):
    raw, message = FAULTS[name]
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(command.UserError, match=re.escape(message)):
        contamination.load(tmp_path, encoder.encode)
