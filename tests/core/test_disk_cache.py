"""A stored answer comes back for the same question, and damage to its file does no harm."""

import pytest

from bert_tpu.core import disk_cache

ANSWER = {"seconds": 1.5, "text": "ü" * 1000, "memory": None}


@pytest.fixture
def answers(tmp_path):
    disk_cache.DiskCache(tmp_path / "a" / "b").put("question", ANSWER)
    return disk_cache.DiskCache(tmp_path / "a" / "b")


def test_an_answer_comes_back_only_for_its_question(answers):
    assert answers.get("question") == ANSWER
    assert answers.get("question ") is None
    assert len(list(answers.folder.iterdir())) == 1  # writing left no partial file


@pytest.mark.parametrize("damage", [b"", b"junk", lambda raw: raw[:-9], lambda raw: raw[:20] + b"\0\0" + raw[22:]])
def test_a_damaged_file_gives_no_answer_and_is_replaced(answers, damage):
    (path,) = answers.folder.iterdir()
    path.write_bytes(damage(path.read_bytes()) if callable(damage) else damage)
    assert answers.get("question") is None
    answers.put("question", ANSWER)
    assert answers.get("question") == ANSWER


def test_nothing_is_stored_without_a_folder_or_in_an_impossible_one(tmp_path):
    (tmp_path / "file").touch()
    for answers in (disk_cache.DiskCache(None), disk_cache.DiskCache(tmp_path / "file" / "folder")):
        answers.put("question", ANSWER)
        assert answers.get("question") is None
