"""An export reaches the Hub whole; a Hub that fails, or is not there, ends in one sentence without the token."""

import shutil
import time

from helpers import fake_hub, small_bert
import pytest

from bert_tpu.core import command
from tools import push_to_hub

constants = pytest.importorskip("huggingface_hub.constants")


@pytest.fixture
def server(monkeypatch):
    """A Hub that this process uses; nobody waits."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
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


def push(model):
    return push_to_hub.upload(str(model), "me/b", fake_hub.TOKEN, private=True)


def complaint(model):
    """Returns the sentence with which an upload ends."""
    with pytest.raises(command.UserError, match="run the same command again") as raised:
        push(model)
    sentence = command.sentence(raised.value)
    assert fake_hub.TOKEN not in sentence
    return sentence


def test_all_files_arrive(server, model):
    assert push(model).endswith("/me/b/commit/c0ffee")
    assert server.uploads == {"me/b": {path.name: path.read_bytes() for path in model.iterdir()}}
    assert {token for _, token in server.requests} == {f"Bearer {fake_hub.TOKEN}"}


@pytest.mark.parametrize("fault", [400, 403, b"", b"{}", b"[]", b"null", b"<html>"])
def test_a_hub_that_answers_otherwise_ends_in_a_sentence(server, model, fault):
    server.listing_faults.extend([fault] * 5)
    sentence = complaint(model)
    assert isinstance(fault, bytes) or str(fault) in sentence


def test_no_connection_ends_in_a_sentence(server, model, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "was not reached" in complaint(model)
    monkeypatch.setenv("HF_ENDPOINT", "nonsense")
    assert "was not reached" in complaint(model)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_damaged_json_is_not_pushed(model, name):
    (model / name).write_bytes((model / name).read_bytes()[:-3])
    with pytest.raises(command.UserError, match=f"{name} is damaged .*: export the model again"):
        push_to_hub.check(model, "me/b")
