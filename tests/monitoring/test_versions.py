"""versions.json says which code trained a run."""

import json
import shutil
import subprocess
import sys

from conftest import ROOT
import pytest

from bert_tpu import __version__
from bert_tpu.core import command
from bert_tpu.monitoring import versions


def git(folder, *words):
    author = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
    done = subprocess.run(["git", "-C", str(folder), *author, *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.parametrize("file", ["model/transformer.py", "tasks/glue.py"])
def test_a_change_of_any_file_of_the_package_changes_the_code_hash(tmp_path, file):
    same, other = (shutil.copytree(versions.PACKAGE, tmp_path / name / "bert_tpu") for name in ("same", "other"))
    with open(other / file, "a") as source:
        source.write("\n")
    assert versions.current(same) == versions.current()
    assert versions.current(other)["code"] != versions.current()["code"]


@pytest.mark.parametrize("library", ["jax", "jaxlib", "numpy", "tensorflow", "optax", "flax", "orbax"])
def test_each_library_that_decides_batches_programs_and_checkpoints_has_its_version(library):
    module = __import__("orbax.checkpoint" if library == "orbax" else library)
    version = module.checkpoint.__version__ if library == "orbax" else module.__version__
    assert versions.current()[library] == version


def test_the_versions_import_no_library():
    code = (
        "import sys\nfrom bert_tpu.monitoring import versions\nversions.current()\n"
        "assert not {'tensorflow', 'flax', 'optax', 'orbax.checkpoint'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_tensorflow_has_two_distribution_names_and_a_missing_library_is_none(tmp_path, monkeypatch):
    """The only folder of sys.path has nothing but one distribution's metadata."""
    folder = tmp_path / "tensorflow-9.9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: tensorflow\nVersion: 9.9\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    versions.current.cache_clear()
    libraries = versions.current()
    versions.current.cache_clear()
    assert (libraries["tensorflow"], libraries["numpy"]) == ("9.9", None)


def test_a_changed_setting_adds_an_entry_with_its_step(tmp_path):
    for step, remat in ((0, False), (5, False), (9, True)):
        versions.record(tmp_path, step, {"exchange": "all-to-all", "model.remat": remat})
    entries = versions.read(tmp_path)
    assert [(entry["step"], entry["model.remat"]) for entry in entries] == [(0, False), (9, True)]
    assert versions.describe(entries[1]).endswith(", model.remat true, from step 9")


def test_other_code_adds_an_entry(tmp_path, monkeypatch):
    for step in (0, 5):
        versions.record(tmp_path, step)
    (first,) = versions.read(tmp_path)
    assert first == {"step": 0, "bert_tpu": __version__, "commit": first["commit"]} | versions.current()
    monkeypatch.setattr(
        versions, "current", lambda: {key: value for key, value in first.items() if key != "step"} | {"jax": "9"}
    )
    versions.record(tmp_path, 7)
    assert versions.read(tmp_path) == [first, first | {"step": 7, "jax": "9"}]
    assert "JAX 9, Python" in versions.describe(versions.read(tmp_path)[1])
    assert versions.describe(versions.read(tmp_path)[1]).endswith("from step 7")


@pytest.mark.parametrize("damaged", ["", "[{", "{}", "7"])
def test_a_damaged_file_is_named_and_put_aside_but_stops_no_run(tmp_path, capsys, damaged):
    path = tmp_path / versions.FILE
    path.write_text(damaged)
    with pytest.raises(command.UserError, match=r"versions.json is damaged"):
        versions.read(tmp_path)
    versions.record(tmp_path, 3)
    assert "versions.json is damaged" in capsys.readouterr().err
    assert path.with_name("versions.json.damaged").read_text() == damaged
    assert [entry["step"] for entry in json.loads(path.read_text())] == [3]


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


def test_the_commit_is_the_one_that_the_launcher_unpacked(tmp_path):
    (tmp_path / "COMMIT").write_text("c0ffee\n")
    assert versions.commit(tmp_path) == "c0ffee"
