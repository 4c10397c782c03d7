"""The kind of a file is found by its content; what is not text is refused by name, and text is not taken for it."""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import sys
import tarfile
import time
import zipfile

from backports import zstd
from helpers.text_sources import DOCUMENTS, WIKI, complaint, read
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.readers import content, decoding, sources

JSONL = "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in DOCUMENTS)
PLAIN = "\n\n".join(DOCUMENTS)
PACKED = {
    "gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress, "zstd": zstd.compress,
    "lzma": lambda raw: lzma.compress(raw, lzma.FORMAT_ALONE),
    "two zstd frames": lambda raw: zstd.compress(raw[:9]) + zstd.compress(raw[9:]),
}  # fmt: skip
DUMP = "<mediawiki><page><title>t</title><ns>0</ns><revision><text>One line.</text></revision></page></mediawiki>"


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("text", [JSONL, PLAIN, WIKI], ids=["jsonl", "text", "wiki"])
@pytest.mark.parametrize("name", ["wiki_00", "part-00000", "a.txt", "a.jsonl.1"])
def test_packed_or_not_a_file_of_any_name_gives_its_documents(tmp_path, name, text, pack):
    path = tmp_path / name
    if name == "a.jsonl.1" and text != JSONL:
        text = JSONL
    for raw in (text.encode(), pack(text.encode())):
        path.write_bytes(raw)
        assert read(path)[0] == DOCUMENTS


@pytest.mark.parametrize("keep", [0.01, 0.5, 0.99])
def test_zstd_that_was_cut_short_or_damaged_is_named(tmp_path, keep):
    raw = zstd.compress("\n".join(map(str, range(100_000))).encode())
    path = tmp_path / "a.txt"
    path.write_bytes(raw[: int(len(raw) * keep)])
    assert "cut short" in complaint(path)
    path.write_bytes(raw + b"junk")
    assert "damaged" in complaint(path)


@pytest.mark.parametrize("name", ["xz", "bzip2"])
def test_a_later_stream_that_is_damaged_or_something_else_is_named(tmp_path, name):
    """Python's own openers take it for the end of the file, and lose the streams after it without a word."""
    pack, path = PACKED[name], tmp_path / "a.txt"
    parts = [pack("".join(f"{n} {i}\n\n" for i in range(1000)).encode()) for n in range(3)]
    path.write_bytes(b"".join(parts))
    assert len(read(path)[0]) == 3000
    for place in (0, 4, len(parts[1]) // 2):
        damaged = bytearray(parts[1])
        damaged[place] ^= 1
        path.write_bytes(parts[0] + damaged + parts[2])
        assert "damaged or cut short" in complaint(path)
    for other in (gzip.compress(b"text"), b"text\n"):
        path.write_bytes(parts[0] + other)
        assert "damaged or cut short" in complaint(path)
    if name == "xz":  # its streams may have zeros behind them
        path.write_bytes(parts[0] + bytes(8) + parts[1] + bytes(4))
        assert len(read(path)[0]) == 2000


def test_lines_of_an_old_mac_behind_others_are_lines(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"Title\n" + b"\r\r".join(b"Text %d." % i for i in range(50)) + b"\rMore.")
    documents, _ = read(tmp_path / "a.txt")
    assert documents == ["Title\nText 0.", *(f"Text {i}." for i in range(1, 49)), "Text 49.\nMore."]
    (tmp_path / "b.jsonl").write_bytes(b'{"text":\r"One."}\n{"text": "Two."}\r\n')
    assert read(tmp_path / "b.jsonl")[0] == ["One.", "Two."]


def test_zstd_without_its_library_is_refused_with_the_command(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(zstd.compress(PLAIN.encode()))
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    assert "which needs backports.zstd: pip install 'bert_tpu[corpus]'" in complaint(tmp_path / "a.txt")


def test_zstd_with_a_large_window_is_read(tmp_path):
    packer = zstd.ZstdCompressor(
        options={zstd.CompressionParameter.window_log: 28}
    )  # above 27 a reader must ask for it
    raw = packer.compress(JSONL.encode()) + packer.flush()  # in two steps, else the window is as small as the content
    (tmp_path / "RC_2010").write_bytes(raw)
    assert read(tmp_path / "RC_2010")[0] == DOCUMENTS


@pytest.mark.parametrize(
    "start",
    [
        "  ", "\ufeff", "\ufeff  \n", '<?xml version="1.0" encoding="utf-8"?>\n', "<!-- a <b> --> \n",
        '<?xml version="1.0"?>\n<!-- x -->\n<!DOCTYPE mediawiki [<!ENTITY a "b">]>\n ',
    ],
)  # fmt: skip
def test_a_dump_is_recognised_behind_whatever_may_precede_its_root(tmp_path, start):
    (tmp_path / "dump").write_text(start + DUMP)
    kind = sources._kind(sources.find([str(tmp_path / "dump")])[0], "auto")
    assert kind.form == "mediawiki"
    (tmp_path / "dump").write_text(start + DUMP.removeprefix("<mediawiki>").removesuffix("</mediawiki>"))
    kind = sources._kind(sources.find([str(tmp_path / "dump")])[0], "auto")
    assert kind.form == "mediawiki"


def test_extracts_with_leading_spaces_are_recognised(tmp_path):
    (tmp_path / "wiki_00").write_text("\n  " + WIKI.replace("\n<doc", "\n <doc").replace("</doc>", "  </doc> "))
    assert read(tmp_path / "wiki_00")[0] == DOCUMENTS


def test_marks_of_the_end_of_a_text_end_documents_and_blank_lines_do_not(tmp_path):
    ends = (
        "<|endoftext|>\n", "\n<|end_of_text|>\n", "\n </s>\n", "\n<eos>\r\n", "<|endoftext|>\nTitle\n", "<|endoftext|>",
        " <|endoftext|> ", " </s>\n", "</s>\n", "</s>", " <eos> ", "<|endoftext|><|startoftext|>", "</s><s>",
        "\n</s>\n<s>\n",
    )  # fmt: skip
    for end in ends:
        texts = [text.replace("\n", "\n\n") for text in DOCUMENTS]
        (tmp_path / "a.txt").write_text(end.join([*texts, ""]))
        expected = [text if not i or "T" not in end else f"Title\n{text}" for i, text in enumerate(DOCUMENTS)]
        assert [text.strip() for text in read(tmp_path / "a.txt")[0][:3]] == expected
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "a\n<|endoftext|>\nb"}) + "\n")
    assert read(tmp_path / "a.jsonl")[1].forms == {"jsonl": 1}


def test_marks_and_codes_that_are_left_in_the_text_are_counted(tmp_path):
    (tmp_path / "a.txt").write_text("A long text. " * 6000 + "\n\nIt ends.</s>Another begins.\n\nAnd <eos> it ends.")
    assert read(tmp_path / "a.txt")[1].end_marks == 2
    (tmp_path / "a.txt").write_text("\x1b[1mBold\x1b[0m and <unk>.\n")
    counts = read(tmp_path / "a.txt")[1]
    assert (counts.colours, counts.unknown_words) == (2, 1)
    (tmp_path / "a.txt").write_text("<s> One text. </s>\n<s> Another. </s>\n")
    assert "set --format endoftext if each is a document" in complaint(tmp_path / "a.txt")
    assert read(tmp_path / "a.txt", "endoftext")[0] == ["One text. ", "Another. "]
    (tmp_path / "a.txt").write_text("one text </s>\nanother </s>\n")
    assert read(tmp_path / "a.txt")[0] == ["one text ", "another "]


def test_the_report_says_how_many_files_were_read_in_which_format(tmp_path):
    for name, text in (("a", JSONL), ("b", PLAIN), ("c", JSONL), ("d", WIKI)):
        (tmp_path / name).write_text(text)
    counts = read(tmp_path / "?")[1]
    assert decoding.report(decoding.add([counts, counts])) == ["sources by format: 4 jsonl, 2 text, 2 wiki"]


def tar(raw, form=tarfile.PAX_FORMAT):
    """A tar archive with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        member = tarfile.TarInfo("book.txt")
        member.size = len(raw)
        archive.addfile(member, io.BytesIO(raw))
    return out.getvalue()


def archive(*names):
    """A zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(name, "application/epub+zip" if name == "mimetype" else "text " * 99)
    return out.getvalue()


def saved(write):
    """The bytes that `write` writes to a file."""
    out = io.BytesIO()
    write(out)
    return out.getvalue()


def database():
    """The bytes of an SQLite database."""
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (text)")
    return connection.serialize()


BINARY = {
    "ORC file": b"ORC\n\x06\x12\x04\x08\x10P\0", " ORC file": b"ORC\n\x1e\n\x04\x08\x10P\0",
    "zip archive": archive("a.txt"), "EPUB": archive("mimetype", "a.xhtml"), "docx": archive("word/document.xml"),
    "npz": saved(lambda out: np.savez(out, a=np.arange(9))), "NumPy": saved(lambda out: np.save(out, np.arange(9))),
    "tar archive": tar(PLAIN.encode()), "tar  archive": tar(PLAIN.encode(), tarfile.USTAR_FORMAT),
    "pickle": pickle.dumps(DOCUMENTS), "SQLite": database(), "7z": b"7z\xbc\xaf\x27\x1c\0\4" + bytes(range(99)),
    "rar": b"Rar!\x1a\x07\x01\0", "lz4": b"\x04\x22\x4d\x18\x64\x40", "PDF": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj",
    "PostScript": b"%!PS-Adobe-3.0\n", "Office": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500),
    "Feather": b"FEA1" + bytes(90), "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(90),
    "image": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "program": b"\x7fELF\2\1\1" + bytes(90), "Avro": b"Obj\x01\x04\x14avro",
    "binary data": np.random.default_rng(0).bytes(4000), " binary data": PLAIN.encode() + bytes(40),
    "safetensors": b"\x40\0\0\0\0\0\0\0{\"a\": 1}",
}  # fmt: skip


@pytest.mark.parametrize("name", BINARY)
def test_what_is_not_text_is_refused_by_name_packed_or_not_and_whatever_format_is_asked(tmp_path, name):
    path = tmp_path / "a.txt"
    for pack in (bytes, gzip.compress, zstd.compress):
        path.write_bytes(pack(BINARY[name]))
        for text_format in ("auto", "text", "file", "jsonl"):
            assert name.replace("  ", " ").strip() in complaint(path, text_format)


def test_a_file_packed_twice_is_refused(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(bz2.compress(PLAIN.encode())))
    assert "unpack it once" in complaint(tmp_path / "a.gz")


def test_a_file_named_parquet_must_be_one(tmp_path):
    for raw in (b"", b"text", b"PAR1S is a word"):
        (tmp_path / "a.parquet").write_bytes(raw)
        assert "arquet" in complaint(tmp_path / "a.parquet") or not raw
        (tmp_path / "a.txt").write_bytes(raw)
        assert read(tmp_path / "a.txt")[0] == [raw.decode()] * bool(raw)


ROWS = [(str(i), f"Text, {i}.", "label") for i in range(9)]
OTHER = {
    "JSON array": json.dumps([{"text": text} for text in DOCUMENTS]),
    "JSON array ": json.dumps([{"text": text} for text in DOCUMENTS], indent=1),
    "JSON  array": json.dumps(DOCUMENTS),
    "over several lines": json.dumps({"text": DOCUMENTS[0]}, indent=4) + "\n" + json.dumps({"text": "b"}, indent=4),
    "Python's notation": "".join(f"{ {'text': text} }\n" for text in DOCUMENTS),
    "table": "".join("\t".join(row) + "\n" for row in ROWS),
    "  table": ("# sent_id = 1\n# text = The boat\n" + "1\tThe\tthe\tDET\n2\tboat\tboat\tNOUN\n\n") * 4,
    " table": "id,text,label\n" + "".join(f'{i},"{text}",{label}\n' for i, text, label in ROWS),
    "table ": "id;text;label\r\n" + "".join(";".join(row) + "\r\n" for row in ROWS),
    "HTML": "\n<!DOCTYPE html>\n<html><head><title>t</title></head><body><p>Text.</p></body></html>",
    " HTML": "<!-- saved -->\n<HTML lang=en><body>Text without end.",
    "<TEI": '<?xml version="1.0"?>\n<TEI xmlns="http://www.tei-c.org/ns/1.0"><text>' + "word " * 9000,
    "<DOC": "<DOC>\n<DOCNO> 1 </DOCNO>\n<TEXT>\nText.\n</TEXT>\n</DOC>\n",
    "<s>": "".join(f"<s>Sentence {i}.</s>\n" for i in range(99)),
    "RTF": r"{\rtf1\ansi{\fonttbl\f0\fswiss Helvetica;}\f0\pard This is text.\par}",
    "git lfs pull": "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
    "JSON string": "".join(json.dumps(f"Line {i}.\nSecond.") + "\n" for i in range(9)),
    "of bytes": "".join(repr(f"Line {i}, “{i}”".encode()) + "\n" for i in range(9)),
    "subtitles": "1\r\n00:00:01,000 --> 00:00:02,000\r\nText.\r\n",
    "mailbox": "From bob Mon Jan 1\nSubject: x\n of two lines\nDate: y\n\nText.\n",
    "a mail with": "Message-ID: <1@x>\r\nDate: Mon\r\nTo: a@b,\r\n\tc@d\r\nX-Folder: x\r\n\r\nText.\r\n",
    " a mail with": "From: bob@x\nSubject: The boat\nLines: 2\n\nText.\n",
    "quoted-printable": "Die B=C3=A4ume bl=C3=BChten.\nK=C3=B6ln ist sch=C3=B6n, und =\nM=C3=BCnchen auch.\n",
    "CR": "One line.\rAnother.\r\rA third.\r",
    "SQL": "-- MySQL dump 10.16\n--\nCREATE TABLE `page` (x int);\n",
    "index of a multistream dump": "".join(f"600:{i}:Title: {i}\n" for i in range(9)),
    "WARC": "WARC/1.0\r\nWARC-Type: response\r\n\r\nHTTP",
    " subtitles": "[Script Info]\nTitle: x\n",
    "lyrics": "[ar:A]\n[00:01.00]One\n[00:02.00]Two\n[00:03.00]Three\n",
    "gettext": '# German\n#: a.c:1\nmsgid "One"\nmsgstr "Eins"\n',
    "LaTeX": "% A thesis\n\\documentclass{article}\n",
    " LaTeX": "\\section{A boat}\nIt sank.\n",
    "Kindle": "A book (An author)\r\n- Your Highlight on page 3 | Added on Monday\r\n\r\nWords.\r\n==========\r\n",
    "encoding HZ": "".join(f"{'今天天气很好'.encode('hz').decode()}{i}\n" for i in range(9)),
    "UTF-7": "".join(f"{'schön, привет'.encode('utf-7').decode()} {i}\n" for i in range(9)),
    "a word in each line": "The\nboat\nsailed\n,\n\n" * 60,
    "notation of a list": repr(DOCUMENTS),
    "a tagged word": "<doc id='1' title='t'>\n<s>\n" + "The\tDT\tthe\nboat\tNN\tboat\n" * 9 + "</s>\n</doc>\n",
    "in one line": '<doc id="1" url="u">One text.</doc>\n<doc id="2" url="u">Two.</doc>\n',
    "inside <doc>": '<doc sitename="s" title="t">\n  <main>\n    <p>Text.</p>\n  </main>\n</doc>',
    "archive of X": 'window.YTD.tweets.part0 = [\n  {"tweet": {"full_text": "One."}}\n]',
    "fastText": "".join(f"__label__a __label__b Line {i}.\n" for i in range(9)),
    "notebook": json.dumps({"cells": [{"cell_type": "markdown", "source": ["A\n", "b."]}], "nbformat": 4}, indent=1),
    " notebook": (json.dumps({"cells": [{"cell_type": "code", "source": "x = 1"}], "nbformat": 4}) + "\n") * 3,
    " notation of a list": repr(["A long text. " * 9000]),
}


@pytest.mark.parametrize("name", OTHER)
def test_text_in_another_notation_is_refused_by_name_unless_it_is_meant_as_text(tmp_path, name):
    path = tmp_path / "a"
    path.write_bytes(OTHER[name].encode())
    message = complaint(path)
    assert name.replace("  ", " ").strip() in message
    assert "--format text" in message
    assert "\n".join(read(path, "text")[0]).split() == OTHER[name].split()


def test_the_kind_of_a_file_is_found_fast_whatever_repeats_in_it():
    began = time.process_time()
    for part in (
        "# x\n",
        "+A",
        "[a:b]\n",
        "A: b\n c\n",
        "%\n",
        "a | \n- |\n",
        "</s> a <s> b ",
        "~{ab",
        " = a\n",
        "a\\'",
    ):
        with contextlib.suppress(command.UserError):
            content.form((part * content.HEAD_BYTES)[: content.HEAD_BYTES].encode(), "a")
    assert (
        time.process_time() - began < 5
    )  # seconds; a form that tries all divisions of the text took 14 for one of these


def test_a_table_is_known_by_its_name(tmp_path):
    for name in ("a.csv", "a.tsv.gz"):
        (tmp_path / name).write_text("text\nOne line.\n")
        assert "is a table" in complaint(tmp_path / name)
        assert "cut -f" not in complaint(tmp_path / name)


def test_a_file_is_known_by_its_name_if_it_is_unfinished_or_describes_others(tmp_path):
    (tmp_path / "a.txt.part").write_text("One line.\n")
    assert "unfinished" in complaint(tmp_path / "a.txt.part")
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert f"'{tmp_path}/**/*.arrow'" in complaint(tmp_path / "dataset_dict.json")


PLAIN_TEXTS = [
    "{{Infobox}} is a template.", "{ a, b } is a set.", "{name}, good morning.", '{"a" is a string} of C.',
    "{\\bf Bold} in TeX.", "[Illustration]\n\nChapter 1", "[1] First note.", "[[Link]] of a wiki.", "[{first}] of all",
    '["What?"] he said.', '["What," he said, "is this?"]', '"Hello," he said.', '"Hello."',
    "GPT-2 has <|endoftext|> as a mark.", "It ends (`<|endoftext|>`).\n\nMore.", "Its mark is </s>\n\nMore.",
    "Words are <s>struck out</s>\nand <s>again</s>\n\nMore.",
    "<3 you", "<alice> hi\n<bob> hi", "<unk> is a token.", "< 5 apples",
    "<!-- A licence. -->\n# Title\n\nMarkdown.", "# Title\n" * 9 + "a\tb\n" * 4,
    "From here on,\nNote: nothing.\n", "From: me\nTo: you\n\nMy love,", "Bob: Hi.\nAnn: From: x\n\nDate: y",
    "a = b\n= c =\n = d\n", "1\n00 --> 1", "b'x'\n" * 4,
    "<bob@example.org> wrote:", '"A quotation."\n' * 9,
    "<p> is a tag that\n" + "nobody closed. " * 500, "<b>Title</b>\n" + "Long text. " * 900,
    "\tIndented.\n" * 9, "a,b\n" * 3 + "A line, with commas, in it.\n" * 9, "1\t2\nshort table in a text\n" * 5,
    "One,two,three.\nOne, two.\nNo comma.\n" * 9, "Name | Age\n--- | ---\nA | 3\n" * 3,
    "PK is a name.", "BZhou", "MZ Smith", "ORC army", "Obj", "SEQ 4", "GIF images", "ID3 tags", "RIFF of rock",
    "II* MM", "Rar! he said.", "%P DF", "GGUF model", "70707 is a number.", "---\ntitle: x\n---\nText.",
    "C++ 3+4-7 A+B-C a+Bob-c " * 2,
    "ORC\nAn army. " * 9, "['What?'] he said.", "短い行\nまた一行\n" * 200,
    "Yes.\nNo, he said.\n" * 200, "[12:30] Bob: Hi.",
    "\x1b[1mBold\x1b[0m in a terminal.\f\n" * 9, "A stray\0 zero. " + "And text. " * 90, "word\x1a", "中文。" * 900,
]  # fmt: skip


@pytest.mark.parametrize("text", PLAIN_TEXTS, ids=lambda text: text[:12])
def test_plain_text_is_plain_text(tmp_path, text):
    (tmp_path / "a.txt").write_bytes(text.encode())
    expected = text.replace("\0", "").split()
    assert "\n".join(read(tmp_path / "a.txt")[0]).split() == expected
