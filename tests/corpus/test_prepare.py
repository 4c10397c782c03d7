"""A corpus contains its input, and its bytes are the same with any number of workers and after any kill."""

import itertools
import json
import math
import os
from pathlib import Path
import random
import re
import shutil
import subprocess
import sys
import time
import types

from helpers.prepare_runs import VOCABULARY, arguments, contents, document, ended, files, kill_when, words
import numpy as np
import pytest

from bert_tpu.core import command, locks
from bert_tpu.corpus import input_units, lockfile, plans, prepare, sentences, store, worker
from bert_tpu.readers import sources
from bert_tpu.tokenizer import encoding, vocab


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """1,200 documents in a file, a sixth of them copies, and the tokenizer."""
    directory = tmp_path_factory.mktemp("text")
    texts = [document(i % 1000) for i in range(1200)]
    (directory / "text.txt").write_text("\n\n".join(texts))
    vocab.save(VOCABULARY, directory / "tokenizer")
    return directory


def call(text, out, **options) -> store.Lock:
    options = {"workers": 2, "heldout": 0.05, "duplicates": "keep"} | options
    return prepare.prepare([str(text / "text.txt")], str(text / "tokenizer"), str(out), **options)


@pytest.fixture(scope="module")
def corpus(text, tmp_path_factory):
    """The corpus of `text`."""
    out = tmp_path_factory.mktemp("prepared") / "corpus"
    call(text, out)
    return out


def test_both_splits_together_are_the_tokenized_input(corpus):
    lock = store.read(corpus)
    encode = vocab.tokenizer(VOCABULARY).encode
    expected = [[encode(sentence).ids for sentence in sentences.split(document(i % 1000))] for i in range(1200)]
    train, heldout = contents(lock, "train"), contents(lock, "heldout")
    assert sorted(train + heldout) == sorted(expected)
    chosen = [d for d in expected if d in heldout]
    assert heldout == chosen  # both splits keep the order of the input
    assert train == [d for d in expected if d not in chosen]


def test_no_document_is_in_both_splits_though_many_come_twice(corpus):
    lock = store.read(corpus)
    train, heldout = contents(lock, "train"), contents(lock, "heldout")
    assert any(train.count(d) == 2 for d in train[:50])
    assert any(heldout.count(d) == 2 for d in heldout)
    assert not [d for d in heldout if d in train]
    assert 0.02 < len(heldout) / 1200 < 0.09


def test_copies_that_differ_only_in_what_the_tokenizer_drops_share_a_split(tmp_path, text):
    plain = [document(i) for i in range(100)]
    loud = [d.upper().replace(" ", "  \u200b") for d in plain]
    (tmp_path / "text.txt").write_text("\n\n".join(plain + loud))
    vocab.save(VOCABULARY, tmp_path / "tokenizer")
    lock = call(tmp_path, tmp_path / "out", heldout=0.5)
    flat = {split: {tuple(itertools.chain(*d)) for d in contents(lock, split)} for split in ("train", "heldout")}
    assert flat["train"]
    assert flat["heldout"]
    assert not flat["train"] & flat["heldout"]


def test_the_lockfile_counts_what_the_shards_hold(corpus, text):
    lock = store.read(corpus)
    for split in store.SPLITS:
        shard = store.load(lock, lock.splits[split])
        summary = lock.content[split]
        assert summary["tokens"] == len(shard.tokens) == shard.sentences.sum()
        assert summary["sentences"] == len(shard.sentences) == shard.documents.sum()
        assert summary["documents"] == len(shard.documents)
        assert shard.sentences.min() > 0
        assert shard.documents.min() > 0
        assert summary["unknown_share"] == np.mean(shard.tokens == 100) > 0
        if split == "train":
            _, counts = np.unique(shard.tokens, return_counts=True)
            p = counts / counts.sum()
            assert math.isclose(lock.unigram_entropy, -(p * np.log(p)).sum())
    path = text / "text.txt"
    assert lock.content["sources"] == [{"path": str(path), "bytes": path.stat().st_size}]
    expected = worker.Options(heldout=0.05, duplicates="keep")._asdict() | {"mix": [], "test_text": None}
    assert lock.content["options"] == expected
    tokens = sum(lock.content[split]["tokens"] for split in store.SPLITS)
    assert lock.content["by_source"] == [{"read": 1200, "documents": 1200, "epochs": 1.0, "tokens": tokens}]
    names = {info.file for split in store.SPLITS for info in lock.splits[split]}
    tokenizer = {"vocab.txt", "tokenizer.json", "tokenizer_config.json"}
    assert set(files(corpus)) == names | tokenizer | {store.LOCKFILE}


def test_bytes_do_not_depend_on_the_number_of_workers(text, tmp_path, monkeypatch):
    monkeypatch.setattr(input_units, "PART_CHARS", (1, 1 << 24))
    for workers in (1, 2):
        call(text, tmp_path / str(workers), workers=workers)
    assert files(tmp_path / "1") == files(tmp_path / "2")
    inputs = sources.find([str(text / "text.txt")])
    assert inputs[0].bytes / input_units.part_chars(inputs) > input_units.PARTS / 2


def test_encoding_word_by_word_equals_encoding_whole_sentences(monkeypatch):
    monkeypatch.setattr(encoding, "MEMO_CHARS", 40)  # forgets all the time
    draw = random.Random(0)
    alphabet = "abc  \t\n.,'ΑΣς\u0301\u200b中[]é"
    texts = ["".join(draw.choices(alphabet, k=draw.randrange(40))) for _ in range(500)]
    plain = vocab.tokenizer(VOCABULARY)
    encoder = encoding.Encoder(VOCABULARY)
    for start in range(0, 500, 50):
        batch = texts[start : start + 50]
        got = [np.frombuffer(code, np.uint16).tolist() for code in encoder.encode(batch)]
        assert got == [plain.encode(one).ids for one in batch]
        assert sum(map(len, encoder.memo)) <= 40 + 2 * sum(map(len, batch))  # words and the runs in them


def test_an_encoder_that_forgets_does_not_disturb_another_thread(monkeypatch):
    """The other thread may run while the tokenizer works."""
    encoder, tokenizer = encoding.Encoder(VOCABULARY), vocab.tokenizer(VOCABULARY)

    def interrupted(words, **options):
        encoder.tokenizer = tokenizer
        with monkeypatch.context() as patch:
            patch.setattr(encoding, "MEMO_CHARS", -1)
            encoder.encode(["of another thread"])
        return tokenizer.encode_batch_fast(words, **options)

    expected = encoder.encode(["brank lamp"])
    encoder.tokenizer = types.SimpleNamespace(encode_batch_fast=interrupted)
    assert encoder.encode(["brank lamp stush"])[0].startswith(expected[0])


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(corpus, text, tmp_path):
    out = tmp_path / "out"
    kills, done = 0, {}
    for wanted in (1, 3):
        kills += kill_when(text, out, "part-*.json", wanted)
        assert not (out / store.LOCKFILE).exists()
        with pytest.raises(command.UserError, match="not finished"):
            store.read(out)
        now = {path: path.stat().st_mtime_ns for path in out.glob("part-*.json")}
        assert done.items() <= now.items()  # finished parts were not written again
        done = now
    assert kills == 2
    assert done
    subprocess.run(arguments(text, out), check=True, capture_output=True)
    assert files(out) == files(corpus)


def test_workers_end_with_a_killed_parent(text, tmp_path):
    run = subprocess.Popen(arguments(text, tmp_path / "out"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "out").glob("part-*.json")):
        assert run.poll() is None
        time.sleep(0.002)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    assert len(children) >= 2
    run.kill()
    run.wait()
    deadline = time.monotonic() + 10
    while any(is_alive(pid) for pid in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def test_a_finished_corpus_is_left_alone(corpus, text, capsys):
    before = {path: path.stat().st_mtime_ns for path in corpus.iterdir()}
    for left in (
        worker.record_path(corpus, worker.part_name(0, 0)),
        input_units.record_path(corpus, 0),
        corpus / store.PLAN,
    ):
        left.touch()  # as if killed after the lockfile was written
    assert call(text, corpus) == store.read(corpus)
    assert "already finished" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in corpus.iterdir()} == before


def test_a_finished_corpus_of_other_options_or_inputs_is_not_overwritten(corpus, text, tmp_path):
    before = files(corpus)
    with pytest.raises(command.UserError, match="other inputs, options"):
        call(text, corpus, heldout=0.06)
    with pytest.raises(command.UserError, match="other inputs, options"):
        call(text, corpus, format="file")
    path = text / "text.txt"
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    os.utime(path)
    with pytest.raises(command.UserError, match="older than"):
        call(text, corpus)
    os.utime(path, ns=times)
    assert files(corpus) == before


def test_an_unfinished_corpus_of_other_inputs_is_not_continued(text, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(lockfile, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            call(text, out)
    with pytest.raises(command.UserError, match="unfinished corpus of other"):
        call(text, out, heldout=0.06)
    call(text, out)


def test_a_corpus_of_older_text_rules_is_read_but_not_continued(tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("\n\n".join(map(document, range(40))))
    vocab.save(VOCABULARY, tmp_path / "tokenizer")

    def stop(*_):
        raise KeyboardInterrupt

    unfinished, finished = tmp_path / "unfinished", tmp_path / "finished"
    with monkeypatch.context() as patch:
        patch.setattr(plans, "TEXT_RULES", plans.TEXT_RULES - 1)
        call(tmp_path, finished, heldout=0.2, workers=1)
        patch.setattr(lockfile, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            call(tmp_path, unfinished, heldout=0.2, workers=1)
    for out, state in ((unfinished, "an unfinished"), (finished, "a finished")):
        with pytest.raises(command.UserError, match=f"holds {state} corpus of other inputs, options or versions"):
            call(tmp_path, out, heldout=0.2, workers=1)
    old = store.read(finished).content
    del old["text_rules"], old["train"]["median_sentences"], old["train"]["single_sentence_documents"]
    (finished / store.LOCKFILE).write_text(json.dumps(old))  # as the release before wrote it
    assert store.read(finished).pair_warning == lockfile.sentence_summary(old) == ""
    with pytest.raises(command.UserError, match="a finished corpus of other"):
        call(tmp_path, finished, heldout=0.2, workers=1)


def test_a_directory_with_other_things_is_not_written_to(text, tmp_path):
    (tmp_path / "precious").touch()
    with pytest.raises(command.UserError, match="not empty"):
        call(text, tmp_path)
    with pytest.raises(command.UserError, match="not empty"):
        call(text, text / "tokenizer")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_a_second_run_in_the_same_directory_is_refused(text, tmp_path):
    with locks.hold(tmp_path), pytest.raises(command.UserError, match="another run"):
        call(text, tmp_path)


def small(tmp_path, content: str, **options):
    (tmp_path / "text.txt").write_text(content)
    vocab.save(VOCABULARY, tmp_path / "tokenizer")
    return call(tmp_path, tmp_path / "out", **options)


@pytest.mark.parametrize("content", ["", "\n\n \n", "\u200b\n\n\u200b\u200b\n"])
def test_an_input_without_tokens_is_refused(tmp_path, content):
    with pytest.raises(command.UserError, match="no text"):
        small(tmp_path, content)


def test_a_split_without_documents_is_refused_with_the_fix(tmp_path):
    for wrong in (1e-9, 1 - 1e-9):
        with pytest.raises(command.UserError, match="or more documents") as fault:
            small(tmp_path, "\n\n".join(map(document, range(4))), heldout=wrong)
        shutil.rmtree(tmp_path / "out")
        advice = float(re.search(r"--heldout ([0-9.e-]+)", str(fault.value)[20:])[1])
        lock = small(tmp_path, "\n\n".join(map(document, range(4))), heldout=advice)
        assert [lock.content[split]["documents"] for split in store.SPLITS] == [2, 2]
        shutil.rmtree(tmp_path / "out")
    with pytest.raises(command.UserError, match=r"delete .* and try more documents"):
        small(tmp_path, document(0) + "\n\n" + document(1), heldout=1e-9)
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(command.UserError, match=r"puts all documents \(1\) into one split; delete .* and try more doc"):
        small(tmp_path, document(0), heldout=0.5, format="file")


def test_the_error_about_one_split_counts_what_was_left_out(tmp_path):
    equal = "\n\n".join([document(0)] * 3)
    with pytest.raises(command.UserError, match=r"all documents \(1; left out: equal documents 2\) into one split"):
        small(tmp_path, equal, heldout=0.4, duplicates="exact")


def test_a_document_of_another_language_is_left_out_once(tmp_path):
    german = "Das kleine Haus stand am Fluss, und seit Jahren hatte niemand darin gewohnt. Der Regen fiel.\n"
    english = "The little house stood by the river, and nobody had lived in it for years. Rain fell on the roof.\n"
    texts = [f"{english * 4}{document(i)[:40]}" for i in range(9)]
    lock = small(tmp_path, "\n\n".join([*texts, german * 3, "\u200b"]), language="en", heldout=0.4)
    cleaning = lock.content["cleaning"]
    assert (cleaning["other_language"], cleaning["empty_documents"]) == (2, 0)
    assert store.read(tmp_path / "out" / store.LOCKFILE) == lock


def test_the_error_names_options_that_leave_out_all_text(tmp_path):
    with pytest.raises(command.UserError, match=r"nothing of the input \(short documents 2\).* try other options"):
        small(tmp_path, document(0) + "\n\n" + document(1), min_tokens=10**6)


def dump(*pages: str) -> str:
    return "<mediawiki>" + "".join(
        f"<page><title>T</title><revision><text>{page}</text></revision></page>" for page in pages
    ) + "</mediawiki>"  # fmt: skip


def test_the_markup_that_is_removed_is_counted_and_a_wiki_that_loses_nearly_all_is_named(tmp_path):
    pages = [f"{document(i)[:60]} &lt;odd&gt;\n" + "* A quotation of some words.\n" * 40 for i in range(40)]
    lock = small(tmp_path, dump(*pages), heldout=0.3)
    [source] = lock.content["by_source"]
    assert source["markup_articles"] == 40
    assert source["transcluded"] == 0
    assert source["prose_characters"] < 0.1 * source["markup_characters"]
    removed = source["markup_characters"] - source["prose_characters"]
    assert f"characters of markup removed {removed:,}" in lockfile.cleaning_summary(lock.content)
    lines = lockfile.reading_report(lock.content)
    assert any("are prose and stay; brackets and tags left in it: 40" in line for line in lines)
    assert "because lists, tables and templates are removed" in lines[-1]
    shutil.rmtree(tmp_path / "out")
    assert len(lockfile.reading_report(small(tmp_path, document(0) + "\n\n" + document(1), heldout=0.3).content)) == 1


def test_the_error_about_a_wiki_without_prose_says_why(tmp_path):
    with pytest.raises(command.UserError, match=r"lists, tables and templates are removed.*; delete .*, and extract"):
        small(tmp_path, dump("# A meaning of words.\n" * 60))
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(command.UserError, match=r"100% of the articles of .* take their text from other pages"):
        small(tmp_path, dump("&lt;pages index=A from=1 to=2 /&gt;", "&lt;pages index=A from=3 to=4 /&gt;"))


def test_a_mix_without_a_matching_source_is_refused_before_the_work(tmp_path):
    with pytest.raises(command.UserError, match=r"no source is left for '\*none\*'"):
        small(tmp_path, document(0), mix=("*none*=2",))
    assert not (tmp_path / "out").exists()


def test_a_file_that_cannot_be_read_is_named_before_the_work(tmp_path):
    vocab.save(VOCABULARY, tmp_path / "tokenizer")
    (tmp_path / "a.txt").write_text(document(0))
    out = tmp_path / "out"
    for raw, fault in ((random.Random(0).randbytes(20_000), "binary data"), ("é".encode("latin-1") * 20, "iconv")):
        (tmp_path / "text.txt").write_bytes(raw)
        with pytest.raises(command.UserError, match=fault):
            prepare.prepare([f"{tmp_path}/*.txt"], tmp_path / "tokenizer", out, workers=1)
        options = ["--input", str(tmp_path / "text.txt"), "--vocab_size", "1100", "--out", str(out)]
        assert re.search(rf"^error: {tmp_path}/text.txt .*{fault}", ended(["tools.train_tokenizer", *options])[1])
        assert not out.exists()


def test_an_impossible_out_for_a_vocabulary_is_named_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    words = ["tools.train_tokenizer", "--input", str(tmp_path / "file"), "--vocab_size", "400"]
    code, message = ended([*words, "--out", str(tmp_path / "file")])
    assert (code, message) == (
        1,
        f"error: {tmp_path / 'file'} is a file where a directory is needed; name another path\n",
    )


@pytest.mark.parametrize("options", [{"heldout": 0.0}, {"heldout": 1.0}, {"workers": 0}])
def test_an_option_out_of_its_range_is_refused(text, tmp_path, options):
    with pytest.raises(command.UserError, match="--"):
        call(text, tmp_path / "out", **options)


def test_empty_and_long_documents_are_counted_and_pieces_never_evaluated_on(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "DOCUMENT_CHARS", 4000)
    long = "\n".join(document(i) for i in range(500, 540))
    texts = ["\u200b", *(document(i) for i in range(40)), long, "\u200b\u200b"]
    lock = small(tmp_path, "\n\n".join(texts), heldout=0.9)
    assert lock.content["cleaning"]["empty_documents"] == 2
    assert lock.content["cut_documents"] == 1
    train = [sentence for d in contents(lock, "train") for sentence in d]
    encode = vocab.tokenizer(VOCABULARY).encode
    assert all(encode(sentence).ids in train for sentence in sentences.split(long))


def test_invalid_utf8_is_reported(tmp_path):
    vocab.save(VOCABULARY, tmp_path / "tokenizer")
    texts = [document(i).encode() for i in range(40)]
    (tmp_path / "text.txt").write_bytes(b"\n\n".join([*texts, b"a \xff b \xfe"]))
    assert call(tmp_path, tmp_path / "out", heldout=0.5).content["invalid_utf8"] == 2


def test_a_fault_is_one_sentence_on_stderr_and_exit_1(text, tmp_path):
    good = words(text, tmp_path / "out")
    for bad in (
        [*good, "--input", str(tmp_path / "none*")],
        [*good, "--tokenizer", str(tmp_path / "none")],
        [*good, "--format", "pdf"],
        [*good, "--wrokers", "2"],
        [*good, "--input", "tfds:no_such_data_set"],
    ):
        code, message = ended(bad)
        last = message.splitlines()[-1]
        assert code == 1
        assert last.startswith("error: ")
        assert "Traceback" not in message
        assert "; " in last  # the fix


def test_the_commands_lead_from_text_to_a_corpus(text, tmp_path):
    tokenizer, out = str(tmp_path / "tokenizer"), str(tmp_path / "out")
    inputs = ["--input", str(text / "*.txt")]
    train = ["tools.train_tokenizer", *inputs]
    assert ended([*train, "--vocab_size", "180", "--out", tokenizer])[0] == 0
    argv = [sys.executable, "-m", "tools.prepare_corpus", *inputs, "--tokenizer", tokenizer]
    run = subprocess.run([*argv, "--out", out], capture_output=True, text=True, check=True)
    lock = store.read(out)
    assert lock.vocab_size == 180
    assert lock.content["train"]["unknown_share"] == 0
    assert f"{lock.content['train']['tokens']:,} tokens" in run.stdout
    assert json.loads((tmp_path / "out" / "corpus.json").read_text()) == lock.content
