"""The text of installed packages is collected, and requirements that are none are named by their line."""

import concurrent.futures
import functools

import pytest

from bert_tpu.core import command
from tools import collect_docs


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch):
    """A thread takes the place of processes, which are not to be copies of one that has run JAX."""
    one = functools.partial(concurrent.futures.ThreadPoolExecutor, 1)  # Python 3.11 parses in one thread at a time
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", one)


def test_options_comments_and_other_platforms_are_passed_over_and_absent_packages_named(tmp_path, capsys):
    path = tmp_path / "requirements.txt"
    path.write_text(
        "# ours\n-r other.txt\n\npackaging >= 20  # a note\nnowhere_at_all; python_version > '3'\n",
        encoding="utf-8-sig",
    )
    size, files = collect_docs.collect(str(path), str(tmp_path / "out.txt"))
    text = (tmp_path / "out.txt").read_text()
    assert len(text) == size > 1000
    assert files > 5
    assert capsys.readouterr().out == "not installed, so left out: nowhere-at-all\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"packaging\ntqdm ==== 1\n", "line 2: 'tqdm ==== 1' is not a requirement"),
        (b"https://host/x.whl\n", "line 1"),
        ("packaging\n".encode("utf-16"), "is not UTF-8 text"),
        (b"nowhere-at-all\n", "names no installed package"),
        (b"", "names no installed package"),
    ],
)
def test_a_file_that_gives_no_text_is_refused_and_nothing_written(tmp_path, content, words):
    path = tmp_path / "requirements.txt"
    path.write_bytes(content)
    with pytest.raises(command.UserError, match=words):
        collect_docs.collect(str(path), str(tmp_path / "out.txt"))
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize("source", ["def f(:", "\0", "(" * 9999, "-" * 99999 + "1"])
def test_a_module_that_python_cannot_read_has_no_text(tmp_path, source):
    path = tmp_path / "module.py"
    path.write_text(source)
    assert collect_docs.prose(str(path)) == []
    assert collect_docs.prose(str(tmp_path / "removed.py")) == []
