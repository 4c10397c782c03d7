"""What a run's files say of the code that trained it."""

import json
import shutil
import subprocess

import pytest

from bert_tpu import __version__, versions


def git(folder, *words):
    author = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    done = subprocess.run(["git", "-C", str(folder), *author, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("file", ["model.py", "tasks/glue.py"])
def test_a_change_of_any_file_of_the_package_is_another_code(tmp_path, file):
    same, other = (shutil.copytree(versions.PACKAGE, tmp_path / name / "bert_tpu") for name in ("same", "other"))
    with open(other / file, "a") as source:
        source.write("\n")
    assert versions.here(same) == versions.here()
    assert versions.here(other)["code"] != versions.here()["code"]


def test_an_entry_is_added_where_the_code_is_another(tmp_path, monkeypatch):
    for step in (0, 5):
        versions.note(tmp_path, step)
    (first,) = versions.read(tmp_path)
    assert first == {"step": 0, "bert_tpu": __version__, "commit": first["commit"]} | versions.here()
    monkeypatch.setattr(
        versions, "here", lambda: {key: value for key, value in first.items() if key != "step"} | {"jax": "9"}
    )
    versions.note(tmp_path, 7)
    assert versions.read(tmp_path) == [first, first | {"step": 7, "jax": "9"}]
    assert "JAX 9, Python" in versions.told(versions.read(tmp_path)[1])
    assert versions.told(versions.read(tmp_path)[1]).endswith("from step 7")


@pytest.mark.parametrize("damaged", ["", "[{", "{}", "7"])
def test_a_damaged_file_stops_no_run(tmp_path, damaged):
    (tmp_path / versions.FILE).write_text(damaged)
    assert versions.read(tmp_path) == []
    versions.note(tmp_path, 3)
    assert [entry["step"] for entry in json.loads((tmp_path / versions.FILE).read_text())] == [3]


def test_the_commit_is_that_of_the_checkout_alone(tmp_path):
    outer = tmp_path / "outer"
    (outer / "inner").mkdir(parents=True)
    git(outer, "init", "-q")
    (outer / "file").write_text("a")
    git(outer, "add", "-A")
    git(outer, "commit", "-qm", "All")
    versions.commit.cache_clear()
    assert versions.commit(outer) == git(outer, "rev-parse", "HEAD")
    assert versions.commit(outer / "inner") is None
    (outer / "file").write_text("b")
    versions.commit.cache_clear()
    assert versions.commit(outer) == git(outer, "rev-parse", "HEAD") + "-dirty"


def test_the_commit_is_what_the_launcher_unpacked(tmp_path):
    (tmp_path / "COMMIT").write_text("c0ffee\n")
    assert versions.commit(tmp_path) == "c0ffee"
