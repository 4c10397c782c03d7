"""Each kept checkpoint becomes a revision on the Hub, which transformers loads; an upload that was stopped resumes."""

import json
import subprocess
import sys
import time

from conftest import ROOT
from helpers import fake_hub, fake_model_hub, small_bert
import numpy as np
import pytest
import transformers

from bert_tpu.core import command
from bert_tpu.export import revisions
from bert_tpu.huggingface import upload
from tools import push_to_hub

constants = pytest.importorskip("huggingface_hub.constants")
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
STEPS = 0, 3, 7
SECTION = small_bert.SHALLOW
NAME = "me/b"


@pytest.fixture
def server(monkeypatch):
    """A Hub that this process uses; nobody waits."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with fake_hub.Hub() as server:
        for key, value in (server.environment() | {"HF_TOKEN": fake_hub.TOKEN}).items():
            monkeypatch.setenv(key, value)
        yield server


@pytest.fixture(scope="module")
def run_once(tmp_path_factory):
    """A workdir with a checkpoint for each of STEPS, and lines about steps that are not all in one."""
    run = small_bert.workdir(tmp_path_factory.mktemp("kept") / "run", SECTION)
    (run / "checkpoints" / str(small_bert.STEP)).rename(run / "aside")
    for step in STEPS:
        small_bert.save_step(run, step, SECTION, seed=step)
    lines = [{"step": n, "kind": "eval", "seq_len": 16, "mlm_loss": 9 - n, "mlm_accuracy": 0.1} for n in (3, 7, 9)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


@pytest.fixture
def run(run_once):
    (run_once / revisions.FILE).unlink(missing_ok=True)
    return run_once


def push(monkeypatch, run, *words):
    monkeypatch.setattr(revisions.pytorch, "_is_torch_installed", lambda: False)  # other tests compare exports with it
    monkeypatch.setattr(sys, "argv", ["tool", "--workdir", str(run), "--repo", NAME, "--push", *words])
    push_to_hub.main()


def test_each_checkpoint_is_a_revision_that_transformers_loads(server, run, monkeypatch, capsys, tmp_path):
    push(monkeypatch, run)
    there = server.models.by_name[NAME]
    assert list(there.branches) == ["main", "step-0", "step-3", "step-7"]
    assert [line for line in capsys.readouterr().out.splitlines() if ": uploaded" in line][-1] == "main: uploaded"
    monkeypatch.setattr(constants, "ENDPOINT", server.environment()["HF_ENDPOINT"])
    template = server.environment()["HF_ENDPOINT"] + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    for name, seed in (("step-3", 3), ("main", 7)):
        model = transformers.BertForPreTraining.from_pretrained(NAME, revision=name, cache_dir=tmp_path)
        words = model.bert.embeddings.word_embeddings.weight.detach().numpy()
        expected = small_bert.params(SECTION, seed)["embeddings"]["word"]
        np.testing.assert_array_equal(words, expected)
        tokenizer = transformers.AutoTokenizer.from_pretrained(NAME, revision=name, cache_dir=tmp_path)
        assert tokenizer.tokenize("the Cat sat") == ["the", "cat", "sat"]


def test_a_card_is_about_its_own_step(server, run, monkeypatch):
    push(monkeypatch, run)
    there = server.models.by_name[NAME]
    cards = {name: there.files(name)["README.md"].decode() for name in there.branches}
    assert 'from_pretrained("me/b", revision="step-3")' in cards["step-3"]
    assert 'from_pretrained("me/b")' in cards["main"]
    assert "trained for 3 steps" in cards["step-3"]
    assert "| 16 | 6.000 |" in cards["step-3"]
    assert "| 16 | 2.000 |" in cards["main"]
    assert "| 16 |" not in cards["step-0"]


def test_a_push_that_failed_goes_on_where_it_stopped(server, run, monkeypatch, capsys):
    """Nothing is sent twice, and what is complete is not even exported again."""
    server.models.commit_faults.extend(["lost", 400])  # step-0, whose commit is made, and step-3
    with pytest.raises(command.UserError, match="status 400"):
        push(monkeypatch, run)
    there = server.models.by_name[NAME]
    assert there.files("step-3") == there.files("main") == {}
    sent = dict(server.models.sent)
    push(monkeypatch, run)
    assert set(there.branches) == {"main", "step-0", "step-3", "step-7"}
    assert "step-0: complete\nstep-3: uploaded\nstep-7: uploaded\nmain: uploaded" in capsys.readouterr().out
    sizes = {len(raw) for raw in there.large.values()}
    assert set(server.models.sent.values()) == sizes  # each file once
    assert all(server.models.sent[digest] == size for digest, size in sent.items())
    commits = len(there.commits)
    monkeypatch.setattr(revisions.pytorch, "export", None)
    push(monkeypatch, run)
    assert len(there.commits) == commits


def test_main_moves_on_from_its_own_commits_alone(server, run, monkeypatch):
    last = run / "checkpoints" / "7"
    last.rename(run / "later")
    push(monkeypatch, run)
    (run / "later").rename(last)
    there = server.models.by_name[NAME]
    push(monkeypatch, run)
    assert there.files("main")["model.safetensors"] == there.files("step-7")["model.safetensors"]
    there.commit("step-3", fake_model_hub.OWN | {"config.json": b"{}"})
    with pytest.raises(command.UserError, match="other content in step-3"):
        push(monkeypatch, run)
    there.commit("main", fake_model_hub.OWN | {"config.json": b"{}"})
    branches = dict(there.branches)
    with pytest.raises(command.UserError, match="other content in main"):
        push(monkeypatch, run)
    assert there.branches == branches
    push(monkeypatch, run, "--replace")
    assert "model.safetensors" in there.files("main")
    assert "model.safetensors" in there.files("step-3")


def test_without_push_the_revisions_are_listed_and_damaged_checkpoints_named(run, monkeypatch, capsys, tmp_path):
    damaged = run / "checkpoints" / "3" / "SHA256SUMS"
    text = damaged.read_text()
    try:
        damaged.write_text(text.replace("  params", "0  params", 1))
        monkeypatch.setattr(sys, "argv", ["tool", "--workdir", str(run), "--repo", NAME])
        push_to_hub.main()
    finally:
        damaged.write_text(text)
    printed = capsys.readouterr()
    assert f"{run}/checkpoints/0 -> {NAME}, revision step-0\n{run}/checkpoints/7" in printed.out
    assert f"{run}/checkpoints/7 -> {NAME}, revision main" in printed.out
    assert f"{run}/checkpoints/3 is left out" in printed.err


def test_a_killed_upload_is_completed(server, tmp_path):
    """kill -9 while a large file is on its way leaves the branch as it was."""
    model = small_bert.save(tmp_path / "model", SECTION)
    server.models.large_faults.append("wait")
    code = (
        "import pathlib; from bert_tpu.huggingface import upload;"
        f"r = upload.Repository({NAME!r}, 'hf_x', is_private=True);"
        f"r.push(pathlib.Path({str(model)!r}), 'step-1', message='m')"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.DEVNULL)
    assert server.models.is_waiting.wait(60)
    process.kill()
    process.wait()
    there = server.models.by_name[NAME]
    assert there.files("step-1") == {}
    outcome = upload.Repository(NAME, "hf_x", is_private=True).push(model, "step-1", message="m")
    assert not outcome.was_complete
    assert there.files("step-1") == {path.name: path.read_bytes() for path in model.iterdir()}
    assert there.files("main") == {}
