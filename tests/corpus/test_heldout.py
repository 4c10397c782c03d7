"""A share of held-out documents that is less than one document is refused before the work, and no other share is."""

import json

import pytest

from bert_tpu.core import command
from bert_tpu.corpus import heldout, prepare, worker
from bert_tpu.readers import sources
from bert_tpu.tokenizer import vocab

VOCABULARY = vocab.Vocab(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "."], True)


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(heldout, "SMALL_BYTES", 100)


def files(tmp_path, count, suffix):
    """`count` different documents, as lines of JSON, as one text file, or as a file each."""
    texts = [f"the cat {'sat ' * number}.\nthe cat sat." for number in range(count)]
    match suffix:
        case "jsonl":
            contents = ["".join(json.dumps({"text": text}) + "\n" for text in texts)]
        case "txt":
            contents = ["\n\n".join(texts)]
        case "book":
            contents = texts
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.{suffix}").write_text(content)
    return [f"{tmp_path}/*.{suffix}"]


@pytest.mark.parametrize("suffix", ["jsonl", "txt", "book"])
@pytest.mark.parametrize(
    ("count", "share", "advice"),
    [
        (9, 0.1, "of 9 documents is less than one document for evaluation; try --heldout 0.5, or more documents"),
        (20, 0.02, "of 20 documents is less than one document for evaluation; try --heldout 0.25, or more documents"),
        (9, 0.9, "of 9 documents is less than one document for training; try --heldout 0.5, or more documents"),
        (10, 0.1, ""),
        (10, 0.9, ""),
        (9, 0.2, ""),
    ],
)
def test_less_than_one_document_is_refused(tmp_path, count, share, advice, suffix):
    found = sources.find(files(tmp_path, count, suffix))
    options = worker.Options(heldout=share, format="file" if suffix == "book" else "auto")
    if not advice:
        heldout.check(found, options)
        return
    with pytest.raises(command.UserError) as raised:
        heldout.check(found, options)
    assert str(raised.value) == f"--heldout {share} {advice}"


def test_the_refusal_comes_before_the_work_and_counts_as_the_work_does(tmp_path, monkeypatch):
    vocab.save(VOCABULARY, tmp_path / "tokenizer")
    arguments = (files(tmp_path, 9, "book"), tmp_path / "tokenizer", tmp_path / "out")
    options = {"workers": 1, "format": "file", "heldout": 1e-9}
    with pytest.raises(command.UserError, match="of 9 documents"):
        prepare.prepare(*arguments, **options)
    assert not list((tmp_path / "out").iterdir())
    monkeypatch.setattr(heldout, "check", lambda *_: None)
    with pytest.raises(command.UserError, match=r"puts all documents \(9\) into one split"):
        prepare.prepare(*arguments, **options)


def test_one_document_is_refused(tmp_path):
    found = sources.find(files(tmp_path, 1, "jsonl"))
    with pytest.raises(command.UserError, match=r"puts all documents \(1\) into one split; try more documents"):
        heldout.check([found[0]._replace(bytes=1000)], worker.Options(heldout=0.5))


def test_a_small_input_is_left_to_the_end_of_the_work_and_a_long_one_too(tmp_path, monkeypatch):
    found = sources.find(files(tmp_path, 9, "jsonl"))
    monkeypatch.setattr(heldout, "MOST_CHARS", 10)
    heldout.check(found, worker.Options())
    monkeypatch.undo()
    heldout.check(found, worker.Options())


def test_the_end_of_the_work_says_why_long_documents_are_not_held_out(tmp_path, monkeypatch):
    vocab.save(VOCABULARY, tmp_path / "tokenizer")
    monkeypatch.setattr(sources, "DOCUMENT_CHARS", 9)
    with pytest.raises(command.UserError, match=r"documents \(3\) into .*; .* documents below 9 characters: longer"):
        prepare.prepare(
            files(tmp_path, 3, "txt"), tmp_path / "tokenizer", tmp_path / "out", workers=1, duplicates="keep"
        )
