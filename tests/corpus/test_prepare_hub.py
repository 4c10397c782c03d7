"""A corpus from the Hugging Face Hub is the one from the same files on a disk, after any kill, and keeps no token."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import types

from conftest import ROOT
from helpers import fake_hub, warm_processes
from helpers.fake_hub import NAME, TOKEN
from helpers.prepare_runs import VOCABULARY, document, files
import pytest

from bert_tpu.corpus import input_units, prepare, store
from bert_tpu.readers import sources
from bert_tpu.report import card_sections
from bert_tpu.tokenizer import vocab

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

FILES = 5
HERE = f"hf://datasets/{NAME}"


def packed(first, documents):
    """Returns a Parquet file of consecutive documents, in row groups of 40."""
    file = io.BytesIO()
    texts = [document(i) for i in range(first, first + documents)]
    table = pyarrow.table({"id": range(documents), "text": texts})
    parquet.write_table(table, file, row_group_size=40, compression="none", use_dictionary=False)
    return file.getvalue()


@pytest.fixture(scope="module")
def data():
    """The files of a data set, each large enough for a unit of its own."""
    data = {f"data/{i}.parquet": packed(400 * i, 400) for i in range(FILES)}
    assert all(len(raw) > input_units.PART_CHARS[0] for raw in data.values())
    return {"README.md": b"A card."} | data


@pytest.fixture
def server(data, tmp_path):
    """A Hub that wants the token."""
    with fake_hub.Hub() as server:
        server.commit(data)
        server.token = TOKEN
        vocab.save(VOCABULARY, tmp_path / "tokenizer")
        yield server


def command_line(server, tmp_path, out):
    """Returns the words and the environment of a run."""
    words = ["--input", f"{HERE}/data/*.parquet", "--tokenizer", tmp_path / "tokenizer", "--out", out]
    words += ["--heldout", "0.05", "--workers", "2"]
    env = os.environ | server.environment() | {"HF_TOKEN": TOKEN}
    return words, env


def ended(server, tmp_path, out):
    """Returns the exit code and the output of a whole run."""
    words, env = command_line(server, tmp_path, out)
    run = warm_processes.run("tools.prepare_corpus", words, env=env)
    return run.returncode, run.stdout + run.stderr


def killed(server, tmp_path, out, units):
    """Kills a run once `units` of its units are finished."""
    words, env = command_line(server, tmp_path, out)
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run = subprocess.Popen([sys.executable, "-m", "tools.prepare_corpus", *words], env=env, cwd=ROOT, **streams)
    while run.poll() is None and len(list(out.glob("unit-*.json"))) < units:
        time.sleep(0.001)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    time.sleep(0.1)  # its workers end, too


def test_a_file_read_in_shares_gives_the_same_corpus(data, tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(data["data/0.parquet"])
    (tmp_path / "b.txt").write_text(document(1000))
    vocab.save(VOCABULARY, tmp_path / "tokenizer")
    inputs, corpora = [f"{tmp_path}/?.*"], []
    for size in (input_units.SHARE_BYTES, len(data["data/0.parquet"]) // 5):
        monkeypatch.setattr(input_units, "SHARE_BYTES", size)
        found = sources.find(inputs)
        units = input_units.cut(found, 1)
        assert sum(unit.size for unit in units) == sum(source.bytes for source in found)
        out = tmp_path / str(size)
        prepare.prepare(inputs, tmp_path / "tokenizer", out, workers=1, heldout=0.05)
        corpora.append(files(out))
    assert [len(units), units[-1].first, units[4].first] == [6, 1, 0]
    assert corpora[0] == corpora[1]


def test_a_killed_run_continues_without_reading_finished_files_again(server, data, tmp_path):
    for name, raw in data.items():
        (tmp_path / "disk" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "disk" / name).write_bytes(raw)
    options = {"workers": 1, "heldout": 0.05}
    prepare.prepare([f"{tmp_path}/disk/data/*.parquet"], tmp_path / "tokenizer", tmp_path / "local", **options)
    local, first, out = files(tmp_path / "local"), server.branches["main"], tmp_path / "out"
    lock = json.loads(local.pop(store.LOCKFILE))

    server.delay_s = 0.02
    killed(server, tmp_path, out, 2)
    assert TOKEN.encode() not in b"".join(files(out).values())
    finished = {f"data/{int(path.stem.removeprefix('unit-'))}.parquet" for path in out.glob("unit-*.json")}
    server.delay_s = 0
    server.commit(data | {"data/3.parquet": data["data/3.parquet"].replace(b"brash", b"brosh")})  # of the same size
    code, output = ended(server, tmp_path, out)
    assert code == 1
    assert f"or name the earlier commit to continue, {HERE}@{first}\n" in output

    server.commit(data | {"README.md": b"Another card, and so another commit."})
    server.sent.clear()
    code, output = ended(server, tmp_path, out)
    assert code == 0, output
    assert TOKEN not in output
    assert not finished & set(server.sent)
    continued = files(out)
    assert TOKEN.encode() not in b"".join(continued.values())
    content = json.loads(continued.pop(store.LOCKFILE))
    assert continued == local
    assert content["commits"] == [f"{HERE}@{server.branches['main']}"]
    run = types.SimpleNamespace(config={"corpus": content}, lock=store.read(out))
    assert f"\n- data set: {content['commits'][0]}\n" in card_sections.training_data(run)
    assert [content[key] for key in ("sha256", "by_source")] == [lock[key] for key in ("sha256", "by_source")]
