"""Every format, compressed or not, gives its documents whole and in order, or an error says why not."""

import io
import json
import os
import sys
import tracemalloc

from helpers.text_sources import DOCUMENTS, PACKERS, WIKI, complaint, read
import hypothesis
from hypothesis import strategies
import pytest

from bert_tpu.core import command, storage
from bert_tpu.readers import decoding, sources

JSONL = "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in DOCUMENTS)
FILES = {
    "plain.txt": "\n\n\n".join(DOCUMENTS),
    "windows.txt": "\ufeff" + "\r\n \t\r\n".join(DOCUMENTS).replace(".\nA", ".\r\nA") + "\r\n",
    "lines.jsonl": JSONL,
    "lines.json": "\ufeff" + JSONL.replace("\n", "\r\n\r\n"),
    "wiki_00": WIKI,
}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("name", FILES)
def test_every_format_is_recognised_and_gives_the_same_documents(tmp_path, name, suffix):
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(PACKERS[suffix](FILES[name].encode()))
    texts, counts = read(path)
    assert texts == DOCUMENTS
    assert counts == sources.Counts(read_bytes=path.stat().st_size, forms=counts.forms)


def test_one_document_a_file_keeps_its_blank_lines(tmp_path):
    for i, text in enumerate(DOCUMENTS):
        (tmp_path / f"{i}.txt").write_text(text.replace("\n", "\n\n"))
    texts, _ = read(tmp_path / "*.txt", "file")
    assert texts == [text.replace("\n", "\n\n") for text in DOCUMENTS]


def test_a_file_ends_its_last_document(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    assert read(tmp_path / "?.txt")[0] == ["a", "b"]


def test_globs_find_each_file_once_in_a_stable_order(tmp_path, monkeypatch):
    for name in ("b/x.txt", "a/y.txt", "a/c/z.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    patterns = [f"{tmp_path}/**/*.txt", f"{tmp_path}/b/../b/x.txt", f"{tmp_path}/a/*.txt"]
    names = [source.path.removeprefix(f"{tmp_path}/") for source in sources.find(patterns)]
    assert names == ["a/c/z.txt", "a/y.txt", "b/x.txt"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link.txt").symlink_to("b/x.txt")
    assert len(sources.find([*patterns, "a/*.txt", "link.txt"])) == 3
    with pytest.raises(command.UserError, match=r"no file matches.*nothing"):
        sources.find([*patterns, f"{tmp_path}/nothing*"])


def test_a_path_that_names_no_file_says_what_to_give(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("part [1]/x.txt", "deep/a/b/y.txt", "deep/c/z.txt", "part 1/w.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    os.mkfifo(tmp_path / "pipe")
    for pattern, name in (("~/part*/w.txt", "part 1/w.txt"), ("~/deep/c/*", "deep/c/z.txt")):
        assert [source.path for source in sources.find([pattern])] == [str(tmp_path / name)]
    (tmp_path / "part 1" / "w.txt").unlink()
    assert [source.path for source in sources.find([f"{tmp_path}/part [1]/*"])] == [str(tmp_path / "part [1]/x.txt")]
    for pattern, advice in (
        ("deep/*", "give '{}/deep/**/*'"), ("deep", "give '{}/deep/**/*'"), ("deep/c/", "give '{}/deep/c/*'"),
        ("part [1]", "give '{}/part [1]/*'"), ("empty/*", "no file lies in them"), ("pipe", "pipe is a stream"),
    ):  # fmt: skip
        with pytest.raises(command.UserError) as error:
            sources.find([f"{tmp_path}/{pattern}"])
        assert advice.format(tmp_path) in str(error.value)
    for pattern in ("-", "/dev/stdin"):
        with pytest.raises(command.UserError, match=f"the input {pattern} is a stream, and .* write it to a file"):
            sources.find([pattern])


def test_a_name_that_is_not_utf8_is_read_and_can_be_printed_and_written(tmp_path, monkeypatch):
    path = os.path.join(os.fsencode(tmp_path), b"caf\xe9.txt")
    with open(path, "wb") as file:
        file.write(b"One line \xff.")
    texts, counts = read(tmp_path / "*")
    assert texts == ["One line \ufffd."]
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "utf-8", errors="strict"))
    sentence = decoding.report(decoding.add([counts]))[1]
    command.run(lambda: print(sentence, flush=True))
    assert sys.stdout.buffer.getvalue().decode().endswith("/caf\\udce9.txt (1)\n")
    storage.write_text(tmp_path / "report", sentence)
    assert (tmp_path / "report").read_text().endswith("/caf\\udce9.txt (1)")


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").symlink_to("gone")
    for pattern in ("*", "b.txt"):
        with pytest.raises(command.UserError, match=r"b.txt is a link to a file that does not exist"):
            sources.find([str(tmp_path / pattern)])


def test_folders_that_a_glob_matches_next_to_files_are_named(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "README.md").write_text("About.")
    (tmp_path / "data" / "part-0.txt").write_text("Text.")
    assert [source.path for source in sources.find([f"{tmp_path}/*"])] == [f"{tmp_path}/README.md"]
    assert capsys.readouterr().err == (
        f"warning: '{tmp_path}/*' also matches 1 folder such as {tmp_path}/data, whose files are not read: "
        f"'{tmp_path}/**/*' matches them\n"
    )
    assert len(sources.find([f"{tmp_path}/**/*"])) == 2
    assert not capsys.readouterr().err


def test_a_name_with_the_letters_of_a_glob_is_a_file(tmp_path):
    (tmp_path / "a[1].txt").write_text("a")
    assert read(tmp_path / "a[1].txt")[0] == ["a"]


def test_invalid_utf8_is_replaced_and_counted(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"a\xffb \xef\xbf\xbd c\xe2\x82\n\xc3\xa9\xc0")
    texts, counts = read(tmp_path / "a.txt")
    assert texts == ["a\ufffdb \ufffd c\ufffd\né\ufffd"]
    assert counts.invalid_utf8 == 3


def test_the_error_about_a_missing_key_names_strings_and_objects(tmp_path):
    for record, message in (
        ({"body": "a"}, "has no 'text'; name the text's key by --column (body), or correct the line"),
        ({"n": 1}, "has no 'text' and no other string; correct the line"),
        (
            {"name": "a", "cells": [{"source": "b"}]},
            "--column (name), or join the objects in 'cells' to a text by jq -c '{text: .cells | map(.source) | "
            """join("\\n")}' OLD > NEW, or write the objects in 'cells' as lines by jq -c '.cells[]' OLD""",
        ),
    ):
        (tmp_path / "a.jsonl").write_text(json.dumps(record))
        assert message in complaint(tmp_path / "a.jsonl")


def test_several_objects_in_a_line_are_named(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}{"text": "b"}\n')
    assert "line 1 has several JSON objects: write one a line by jq -c . OLD > NEW" in complaint(tmp_path / "a.jsonl")


def test_the_error_about_a_list_has_the_command_that_joins_it(tmp_path):
    words = ["The boat sailed to the sea.", "It sank there, and so on."]
    for record, column, message in (
        (
            {"text": words},
            "text",
            """under 'text', not a string; join it by jq -c '.text |= (join("\\n"))' OLD > NEW""",
        ),
        ({"a": {"b c": words}}, "a.b c", """jq -c '.a.["b c"] |= (join("\\n"))' OLD"""),
        ({"text": [{"role": "user", "content": "Hi."}]}, "text", """'.text |= (map(.content) | join("\\n"))' OLD"""),
        (
            {"text": ["See ", {"type": "link", "text": "a.org"}, "."]},
            "text",
            """jq -c '.text |= (map(if type == "object" then .text else . end) | join(""))' OLD > NEW""",
        ),
        ({"text": [1, 2]}, "text", "has a list under 'text', not a string; correct it"),
        ({"tags": ["a", "b"], "source": words}, "text", """jq -c '{text: .source | join("\\n")}' OLD > NEW, or"""),
    ):
        (tmp_path / "a.jsonl").write_text(json.dumps(record))
        assert message in complaint(tmp_path / "a.jsonl", column=column)


def test_lines_of_elasticsearch_between_documents_are_left_out(tmp_path):
    records = [{"index": {"_type": "_doc", "_id": "1"}}, {"text": "One."}, {"create": {"_id": "2"}}, {"text": "Two."}]
    (tmp_path / "a.json").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert read(tmp_path / "a.json")[0] == ["One.", "Two."]


def test_half_a_surrogate_pair_in_json_is_replaced_and_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a \\ud83d b \\ud83e\\udd17"}\n')
    texts, counts = read(tmp_path / "a.jsonl")
    assert texts[0].startswith("a \ufffd")
    assert texts[0].endswith(" b 🤗")
    assert (counts.invalid_utf8, counts.half_pairs) == (0, 1)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_an_archive_that_was_cut_short_is_named(tmp_path, suffix, keep):
    raw = PACKERS[suffix]("\n".join(map(str, range(100_000))).encode())
    path = tmp_path / f"a{suffix}"
    path.write_bytes(raw[: int(len(raw) * keep)])
    assert "cut short" in complaint(path)


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
def test_a_renamed_text_file_is_not_taken_for_an_archive(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"plain text that somebody renamed, long enough for any header")
    assert read(path)[0] == [path.read_text()]


def test_another_column_may_hold_the_text(tmp_path):
    (tmp_path / "a").write_text(JSONL.replace('"text"', '"body"'))
    documents = sources.documents(sources.find([str(tmp_path / "a")]), sources.Counts(), column="body")
    assert [document.text for document in documents] == DOCUMENTS


def test_a_column_may_be_inside_an_object_and_a_missing_one_is_told_from_the_others(tmp_path):
    (tmp_path / "a").write_text('{"id": 1, "answer": {"body": "One line.", "n": 2}, "b.c": "x"}\n')
    source = sources.find([str(tmp_path / "a")])
    for column, text in (("answer.body", "One line."), ("b.c", "x")):
        assert [d.text for d in sources.documents(source, sources.Counts(), column=column)] == [text]
    assert "line 1 has no 'text'; name the text's key by --column (answer.body, b.c), or" in complaint(tmp_path / "a")
    (tmp_path / "a").write_text('{"id": 1}\n')
    assert "has no 'text' and no other string; correct the line" in complaint(tmp_path / "a")


def test_a_null_is_an_empty_document(tmp_path):
    (tmp_path / "a").write_text('{"text": null}\n{"text": ""}\n{"text": "One line."}\n')
    (tmp_path / "b").write_text("")
    texts, counts = read(tmp_path / "?")
    assert texts == ["", "", "One line."]
    assert counts.forms == {"jsonl": 1, "empty": 1}


@pytest.mark.parametrize("line", ['{"text": 1}', '{"body": "x"}', '"text"', '{"text": "x"', "[" * 100_000, "null"])
def test_a_malformed_json_line_is_named_by_its_number(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_text(JSONL + "\n" + line + "\n" + JSONL)
    assert "line 5 " in complaint(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WIKI.removesuffix("</doc>\n"), "inside a <doc>"),
        (WIKI + "stray\n", "line 14 "),
        (WIKI.replace("</doc>\n", "", 1), "inside another"),
        (WIKI.replace("Third.", "x" * 3_000_000) + "stray", "line 14 "),
    ],
)
def test_a_broken_wiki_extract_is_named(tmp_path, text, words):
    path = tmp_path / "wiki"
    path.write_text(text)
    assert words in complaint(path)


def test_utf16_is_refused_by_name(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("text".encode("utf-16"))
    assert "UTF-16" in complaint(path)


@pytest.mark.parametrize("unit", ["word é中 ", "中", "x"])
def test_20_mb_without_a_newline_lose_nothing_and_need_little_memory(tmp_path, unit):
    path = tmp_path / "long.txt"
    text = unit * (20_000_000 // len(unit.encode()))
    path.write_text(text)
    counts = sources.Counts()
    letters, pieces, longest = 0, 0, 0
    tracemalloc.start()
    for document in sources.documents(sources.find([str(path)]), counts):
        assert document.piece
        assert not document.text.strip(f"{unit}\n")
        letters += len(document.text) - document.text.count("\n")
        pieces += 1
        longest = max(longest, len(document.text))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert letters == len(text)
    assert pieces >= len(text) / sources.DOCUMENT_CHARS
    assert longest <= sources.DOCUMENT_CHARS
    assert peak < 64e6
    assert (counts.cut_documents, counts.invalid_utf8) == (1, 0)


def test_a_long_json_document_is_cut_at_white_space(tmp_path):
    text = "word " * 2_000_000
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n" + JSONL)
    counts = sources.Counts()
    documents = list(sources.documents(sources.find([str(tmp_path / "a.jsonl")]), counts))
    assert [document.piece for document in documents] == [True, True, True, False, False, False]
    assert "".join(d.text.replace("\n", "") for d in documents[:3]) == text
    assert set(" ".join(d.text for d in documents[:3]).split()) == {"word"}
    assert counts.cut_documents == 1


@hypothesis.settings(deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(
    paragraphs=strategies.lists(
        strategies.text(strategies.characters(codec="utf-8", exclude_categories=["Cc"])),
        min_size=1,
    )
)
def test_text_and_json_lines_give_the_characters_of_the_file(tmp_path, paragraphs):
    hypothesis.assume(not paragraphs[0].startswith("\ufeff"))
    path = tmp_path / "a.txt"
    path.write_text("\n".join(paragraphs) + "\n", encoding="utf-8", newline="\n")
    expected = "\n".join(p if p.strip() else "" for p in paragraphs).split("\n\n")
    expected = [text.strip("\n") for text in expected if text.strip("\n")]
    assert read(path, "text")[0] == expected
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "\n".join(paragraphs)}) + "\n")
    assert read(tmp_path / "a.jsonl")[0] == ["\n".join(paragraphs).strip("\n")]
