"""The wheel has the same files from a clone and from the source archive, and no top-level name but bert_tpu."""

import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile

from conftest import ROOT
import pytest

import bert_tpu

PACKED = ("bert_tpu/", "configs/", "tools/", "pyproject", "MANIFEST", "README", "LICENSE")
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


def build(kind, source, out):
    """Builds "build_wheel" or "build_sdist" as pip does, without the network; returns the file's path."""
    out.mkdir()
    command = [sys.executable, "-c", BUILD, kind, str(out)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    return next(out.iterdir())


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy of the files that git has or would take."""
    names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True).split("\n")
    folder = tmp_path_factory.mktemp("clone")
    for name in names:
        if name.startswith(PACKED) and (ROOT / name).exists():  # not one that is about to be removed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def wheels(clone, tmp_path_factory):
    """The file contents of two wheels: of the clone, and of its source archive."""
    folder = tmp_path_factory.mktemp("built")
    direct = build("build_wheel", clone, folder / "direct")
    archive = build("build_sdist", clone, folder / "archive")
    with tarfile.open(archive) as file:
        file.extractall(folder / "unpacked", filter="data")
    by_archive = build("build_wheel", next((folder / "unpacked").iterdir()), folder / "by_archive")
    contents = []
    for path in (direct, by_archive):
        with zipfile.ZipFile(path) as file:
            contents.append({name: file.read(name) for name in file.namelist()})
    return contents


def test_a_wheel_has_all_modules_below_one_name(wheels):
    files = wheels[0]
    assert {name.split("/")[0].split("-")[0] for name in files} == {"bert_tpu"}
    for folder in ("configs", "tools"):
        for path in (ROOT / folder).glob("*.py"):
            assert files[f"bert_tpu/{folder}/{path.name}"] == path.read_bytes()
    for path in (ROOT / "bert_tpu").rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        if name not in ("bert_tpu/configs/__init__.py", "bert_tpu/tools/__init__.py"):  # only a clone has these
            assert files[name] == path.read_bytes()
    assert "bert_tpu/report/page.html" in files
    entry_points = next(text for name, text in files.items() if name.endswith("entry_points.txt")).decode()
    assert "bert-tpu = bert_tpu.cli.main:main" in entry_points


def test_a_wheel_of_the_source_archive_is_the_same(wheels):
    def but_record(files):
        return {name: text for name, text in files.items() if not name.endswith("RECORD")}

    direct, by_archive = map(but_record, wheels)
    assert direct.keys() == by_archive.keys()
    assert direct == by_archive


def test_tools_and_configs_import_each_other_by_names_that_a_wheel_has():
    for path in (*(ROOT / "tools").glob("*.py"), *(ROOT / "configs").glob("*.py")):
        assert not re.search(r"^ *(from|import) (tools|configs)\b", path.read_text(), re.MULTILINE), path


def test_an_unpacked_wheel_starts_a_command_and_finds_configs_anywhere(wheels, tmp_path):
    for name, text in wheels[1].items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    (tmp_path / "mine.py").write_text(
        "from bert_tpu.configs import demo\n\ndef get_config():\n    cfg = demo.get_config()\n    cfg.seed = 7\n"
        "    return cfg\n"
    )
    code = (
        "from bert_tpu.core import config; from bert_tpu.tools import collect_docs; import bert_tpu.tools; "
        "assert config.load('bert:mini').model.num_layers == 4; assert config.load('demo').batch_size == 32; "
        "assert config.load('mine.py').seed == 7; print(bert_tpu.tools.__path__[0])"
    )
    env = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert pathlib.Path(done.stdout.strip()) == tmp_path / "site/bert_tpu/tools"


def test_the_version_is_the_same_everywhere():
    version = bert_tpu.__version__
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    wheels = {name for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
              for name in re.findall(r"bert_tpu-([\d.]+)-py3", path.read_text())}  # fmt: skip
    assert wheels == {version}
    heading = re.search(r"^## (?!Unreleased$)(.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert re.match(rf"{re.escape(version)}( |$)", heading)


def test_the_metadata_have_ranges_and_every_extra_that_messages_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sources = [path.read_text() for folder in ("bert_tpu", "tools") for path in (ROOT / folder).rglob("*.py")]
    pages = [path.read_text() for path in (ROOT / "docs").glob("*.md")]
    named = {extra for text in sources for extra in re.findall(r'extra="(\w+)"', text)}
    named |= {extra for text in sources + pages for extra in re.findall(r"bert_tpu\[(\w+)\]", text)}
    assert named <= project["optional-dependencies"].keys()


def test_the_page_on_installation_has_the_extras_and_their_packages():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    rows = re.findall(
        r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", (ROOT / "docs/installation.md").read_text(), re.MULTILINE
    )
    packages = {name: [re.match(r"[\w.-]+", line)[0] for line in lines] for name, lines in extras.items()}
    assert [(name, re.findall(r"`(\S+)`", cell)) for name, cell in rows] == list(packages.items())
