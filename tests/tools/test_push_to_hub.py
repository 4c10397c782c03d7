"""An export reaches the Hub whole; a Hub that fails, or is not there, ends in one sentence without the token."""

import shutil
import sys
import time

from helpers import fake_hub, fake_model_hub, small_bert
import pytest

from bert_tpu.core import command
from bert_tpu.huggingface import upload
from bert_tpu.report import card_sections
from tools import push_to_hub

constants = pytest.importorskip("huggingface_hub.constants")
# huggingface_hub itself sends large files so.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def server(monkeypatch):
    """A Hub that this process uses; nobody waits."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # its store is a service of its own
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with fake_hub.Hub() as server:
        for key, value in (server.environment() | {"HF_TOKEN": fake_hub.TOKEN}).items():
            monkeypatch.setenv(key, value)
        yield server


@pytest.fixture
def model(tmp_path):
    """An exported directory."""
    model = shutil.copytree(small_bert.saved_once(), tmp_path / "model")
    (model / "README.md").write_text("---\nlicense: mit\n---\n")
    return model


def push(model, **options):
    repository = upload.Repository("me/b", fake_hub.TOKEN, is_private=True)
    return repository.push(model, "main", message="A model", **options)


def complaint(model, **options):
    """Returns the sentence with which an upload ends."""
    with pytest.raises(command.UserError) as raised:
        push(model, **options)
    sentence = command.sentence(raised.value)
    assert fake_hub.TOKEN not in sentence
    return sentence


def content(model):
    return {path.name: path.read_bytes() for path in model.iterdir()}


def test_all_files_arrive_once(server, model, monkeypatch, capsys):
    words = ["--model", str(model), "--repo", "me/b", "--push"]
    monkeypatch.setattr(sys, "argv", ["tool", *words])
    push_to_hub.main()
    there = server.models.by_name["me/b"]
    assert f"/me/b/commit/{there.branches['main']}: 7 files" in capsys.readouterr().out
    assert there.files() == content(model)
    assert {token for _, token in server.requests} == {f"Bearer {fake_hub.TOKEN}"}
    push_to_hub.main()
    assert "already there" in capsys.readouterr().out
    assert len(there.commits) == 2
    assert sum(server.models.sent.values()) == (model / "model.safetensors").stat().st_size


def test_the_code_in_the_card_loads_the_repository(server, model, monkeypatch):
    other = 'BertModel.from_pretrained("other")\n'
    started = card_sections.START.format(name="model")
    (model / "README.md").write_text(started + other)
    monkeypatch.setattr(sys, "argv", ["tool", "--model", str(model), "--repo", "me/b", "--push"])
    push_to_hub.main()
    there = server.models.by_name["me/b"].files()["README.md"].decode()
    assert there == card_sections.START.format(name="me/b") + other
    (model / "README.md").write_bytes(b"caf\xe9")
    with pytest.raises(command.UserError, match="is not in UTF-8"):
        push_to_hub.main()


@pytest.mark.parametrize("fault", [400, 403, b"", b"{}", b"[]", b"null", b"<html>"])
def test_a_hub_that_answers_otherwise_ends_in_a_sentence(server, model, fault):
    server.listing_faults.extend([fault] * 5)
    sentence = complaint(model)
    assert "run the same command again" in sentence or "HF_TOKEN may not write there" in sentence


def test_no_connection_ends_in_a_sentence(server, model, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "does not answer" in complaint(model)
    monkeypatch.setenv("HF_ENDPOINT", "nonsense")
    assert "does not answer" in complaint(model)


def test_a_wrong_token_and_a_name_of_somebody_else_are_named(server, model):
    server.token = "hf_another"
    assert "does not accept this HF_TOKEN" in complaint(model)
    server.token = None
    server.models.taken.add("me/b")
    assert "HF_TOKEN may not write there" in complaint(model)


def test_a_connection_that_breaks_is_tried_again(server, model):
    """A large file that is cut, a busy store, and a commit whose answer is lost: one commit has all."""
    server.models.large_faults.extend(["cut", 500])
    server.models.commit_faults.extend([502, "lost"])
    push(model)
    there = server.models.by_name["me/b"]
    assert there.files() == content(model)
    assert len(there.commits) == 2
    assert sum(server.models.sent.values()) == (model / "model.safetensors").stat().st_size


def test_other_content_is_replaced_only_if_that_is_asked_for(server, model):
    other = {"config.json": b"{}", "pytorch_model.bin": b"x"}
    there = server.models.by_name["me/b"] = fake_model_hub.Model()
    there.commit("main", fake_model_hub.OWN | other)
    assert "me/b has other content in main" in (sentence := complaint(model))
    assert "--replace" in sentence
    assert there.files() == other
    push(model, replace=True)
    assert there.files() == content(model)


def test_a_card_that_somebody_edited_is_not_overwritten(server, model):
    push(model)
    there = server.models.by_name["me/b"]
    edited = there.files() | {"README.md": b"mine"}
    there.commit("main", fake_model_hub.OWN | edited)
    assert "other content in main (README.md)" in complaint(model)
    assert push(model, keeps_card=True).is_card_kept
    assert there.files() == edited


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_damaged_json_is_not_pushed(model, name):
    (model / name).write_bytes((model / name).read_bytes()[:-3])
    with pytest.raises(command.UserError, match=f"{name} is damaged .*: export the model again"):
        push_to_hub.check(model)
