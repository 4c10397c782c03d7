"""A vocabulary of much text is trained on a sample from all of it, of which a Parquet file fetches nothing else."""

import io
import json
import sys

from helpers import fake_hub
import pytest

from bert_tpu.core import command, hub_requests
from bert_tpu.readers import hub, sources
from tools import train_tokenizer

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
constants = pytest.importorskip("huggingface_hub.constants")

ROWS = 4000


def packed(number):
    """Returns a Parquet file of 40 row groups."""
    file = io.BytesIO()
    texts = [f"{number} {i} " + "word " * 200 for i in range(ROWS)]
    parquet.write_table(pyarrow.table({"text": texts}), file, row_group_size=ROWS // 40, compression="none",
                        use_dictionary=False)  # fmt: skip
    return file.getvalue()


def test_a_sample_is_of_all_files_and_of_all_their_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    files = {f"{i}.parquet": packed(i) for i in range(4)}
    files["5.txt"] = "\n\n".join(f"5 {i} " + "word " * 200 for i in range(ROWS)).encode()
    monkeypatch.setattr(train_tokenizer, "SAMPLE_BYTES", sum(map(len, files.values())) // 4)
    monkeypatch.setattr(hub, "BLOCK_BYTES", 1 << 16)
    with fake_hub.Hub() as server:
        server.commit(files)
        for key, value in server.environment().items():
            monkeypatch.setenv(key, value)
        hub_requests.files.cache_clear()
        found = sources.find([f"hf://datasets/{fake_hub.NAME}/*"])
        lines = [
            line.split()[:2] for line in train_tokenizer.lines(found, "auto", "text", "NFC", "words", sources.Counts())
        ]
        hub_requests.files.cache_clear()
    for name, raw in files.items():
        rows = [int(row) for number, row in lines if number == name[0]]
        assert ROWS / 10 < len(rows) < ROWS / 3
        assert min(rows) < ROWS / 5
        assert max(rows) > ROWS * 0.7
        assert len(set(rows)) == len(rows)
        assert name == "5.txt" or server.sent[name] < len(raw) * 0.75


@pytest.mark.parametrize("groups", [1, 2, 3, 30])
def test_a_sample_has_documents_of_files_with_few_row_groups(tmp_path, monkeypatch, groups):
    for number in range(6):
        texts = [f"{number} {i} word" for i in range(ROWS)]
        parquet.write_table(
            pyarrow.table({"text": texts}), tmp_path / f"{number}.parquet", row_group_size=-(-ROWS // groups)
        )
    found = sources.find([f"{tmp_path}/*.parquet"])
    monkeypatch.setattr(train_tokenizer, "SAMPLE_BYTES", sum(source.bytes for source in found) // 12)
    lines = [line.split() for line in train_tokenizer.lines(found, "auto", "text", "NFC", "words", sources.Counts())]
    for number in range(6):
        assert sum(line[0] == str(number) for line in lines) == pytest.approx(ROWS / 13, rel=0.25)


@pytest.mark.parametrize("turn", [2, 4, 5])
def test_a_sample_of_documents_in_turn_has_all_kinds(tmp_path, monkeypatch, turn):
    path = tmp_path / "text.jsonl"
    path.write_text("".join(json.dumps({"text": f"{i % turn} word"}) + "\n" for i in range(ROWS)))
    found = sources.find([str(path)])
    monkeypatch.setattr(train_tokenizer, "SAMPLE_BYTES", path.stat().st_size // 3)
    assert train_tokenizer.sampled(found) == 4
    lines = [line.split() for line in train_tokenizer.lines(found, "auto", "text", "NFC", "words", sources.Counts())]
    for kind in range(turn):
        assert sum(line[0] == str(kind) for line in lines) == pytest.approx(ROWS / turn / 4, rel=0.25)


@pytest.mark.parametrize(
    ("form", "pieces", "is_advised"),
    [
        ("NFC", {"\ufb01", "\u1e0b"}, True),
        ("NFKC", {"f", "i", "\u1e0b"}, False),
        ("none", {"\ufb01", "d", "\u0307"}, True),
    ],
)
def test_the_vocabulary_is_of_the_text_as_prepare_will_write_it(
    tmp_path, monkeypatch, capsys, form, pieces, is_advised
):
    (tmp_path / "a.txt").write_text("\ufb01 d\u0307 abac abdc adbc acdb\n" * 9, encoding="utf-8")
    options = ["--input", str(tmp_path / "a.txt"), "--vocab_size", "120", "--out", str(tmp_path / "T"), "--cased"]
    monkeypatch.setattr(sys, "argv", ["train-tokenizer", *options, "--normal_form", form])
    train_tokenizer.main()
    found = (tmp_path / "T" / "vocab.txt").read_text(encoding="utf-8").split("\n")
    assert {piece.removeprefix("##") for piece in found if piece and not piece.startswith("[")} >= pieces
    assert {"\ufb01", "\u1e0b"} & set(found) == {"\ufb01", "\u1e0b"} & pieces
    assert ("--normal_form NFKC" in capsys.readouterr().out) == is_advised


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.txt": ""}, "{0}/a.txt holds no text (it is empty); name files with text"),
        (
            {"a.txt": " \n\n", "b.jsonl": '{"text": null}\n'},
            "{0}/a.txt and 1 more file hold no text (they are read as jsonl 1, text 1); name",
        ),
        ({"a.txt": "QUJD" * 99}, "{0}/a.txt holds no text (it is read as text) but words of more than 200 characters"),
        (
            {"a.xml": "<mediawiki><page><ns>0</ns><redirect title='T'/><revision><text>x</text></revision></page>"
             "<page><ns>0</ns><revision><text></text></revision></page></mediawiki>"},
            "no page of {0}/a.xml is an article with text (pages left out of dumps: redirects 1, empty 1); name",
        ),
    ],
)  # fmt: skip
def test_an_input_without_text_is_named_with_the_reason(tmp_path, monkeypatch, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    options = ["--input", *(f"{tmp_path}/{name}" for name in files), "--vocab_size", "300", "--out", f"{tmp_path}/out"]
    monkeypatch.setattr(sys, "argv", ["tool", *options])
    with pytest.raises(command.UserError) as error:
        train_tokenizer.main()
    assert str(error.value).startswith(message.format(tmp_path))


def test_the_folder_of_the_text_is_no_out(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a text")
    monkeypatch.setattr(
        sys, "argv", ["tool", "--input", f"{tmp_path}/*", "--vocab_size", "300", "--out", f"{tmp_path}/"]
    )
    with pytest.raises(command.UserError, match="has files of the input"):
        train_tokenizer.main()
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
