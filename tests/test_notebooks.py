"""The notebooks are valid, and run from the first cell to the last on a CPU with small values."""

import json
import os
import pathlib
import random
import subprocess

from conftest import ROOT, write_text
from helpers import fake_hub, small_bert, tiny_runs, warm_processes
import pytest

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
TINY = {key: value for key, value in tiny_runs.KEYS.items() if key.startswith(("model.", "data.", "batch_size"))}
del TINY["model.vocab_size"]  # the notebook gives the vocabulary's own


def code_of(path):
    """The code cells of a notebook."""
    cells = json.loads((ROOT / "notebooks" / path).read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def options(values):
    """Config keys as options of a command."""
    return " ".join(f"--config.{key}={value}" for key, value in values.items()).replace(", ", ",")


@pytest.fixture
def execute(monkeypatch, tmp_path):
    """A function that runs the first `cells` code cells of a notebook, with other values, and returns the text."""
    popen = subprocess.Popen
    (tmp_path / "env/bin").mkdir(parents=True)
    (tmp_path / "env/bin/bert-tpu").touch()

    def start(words, *, cwd, env, **pipes):
        if words[0] != "bert-tpu":
            return popen(words, cwd=cwd, env=env, **pipes)
        pipes = {name: pipes[name] for name in ("stdout", "stderr")}
        return warm_processes.start("bert_tpu", words[1:], cwd=cwd, env=env | {"PYTHONPATH": str(ROOT)}, **pipes)

    monkeypatch.setattr(subprocess, "Popen", start)

    def execute(name, cells=None, **values):
        lines = []
        namespace = {"print": lambda *words, end="\n": lines.append(" ".join(map(str, words)))}
        for number, code in enumerate(code_of(name)[:cells]):
            exec(compile(code, f"{name}, code cell {number}", "exec"), namespace)
            if number == 0:
                assert values.keys() <= namespace.keys()
                namespace |= values | {"ENV": str(tmp_path / "env")}
        return "".join(lines)

    return execute


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub with two files of text, for this process and its children."""
    for number in range(2):
        write_text(tmp_path / f"{number}.txt", documents=60, seed=number)
    with fake_hub.Hub() as hub:
        hub.commit({f"data/{number}.txt": (tmp_path / f"{number}.txt").read_bytes() for number in range(2)})
        for key, value in (hub.environment() | {"HF_TOKEN": fake_hub.TOKEN}).items():
            monkeypatch.setenv(key, value)
        yield hub


def test_a_run_on_text_from_the_hub_continues_in_another_session_and_is_pushed(execute, hub, tmp_path, monkeypatch):
    values = {
        "TEXT": f"hf://datasets/{fake_hub.NAME}/data/*.txt", "VOCABULARY": 400, "STEPS": 20, "REPO": "me/b",
        "MORE": options(TINY | {"eval.num_batches": 2}), "SAVED": str(tmp_path / "drive"),
    }  # fmt: skip
    first = execute("pretrain_from_the_hub.ipynb", 5, WORK=str(tmp_path / "a"), **values)
    assert "starts from the beginning" in first
    metrics = (tmp_path / "drive/run/metrics.jsonl").read_bytes()
    second = execute("pretrain_from_the_hub.ipynb", WORK=str(tmp_path / "b"), EARLIER=str(tmp_path / "drive"), **values)
    assert "continues in" in second
    assert (tmp_path / "b/run/metrics.jsonl").read_bytes() == metrics
    assert {"model.safetensors", "README.md", "tokenizer.json", "config.json"} <= hub.models.by_name[
        "me/b"
    ].files().keys()
    assert "[MASK]" in second
    assert (tmp_path / "b/run/report.html").exists()
    assert fake_hub.TOKEN not in first + second


def test_a_bert_is_continued_on_text_of_ones_own(execute, tmp_path):
    model = small_bert.save(tmp_path / "bert", small_bert.SHALLOW)
    rng = random.Random(0)
    words = [word for word in small_bert.WORDS.split() if not word.startswith("##")]
    texts = ["\n".join(" ".join(rng.choices(words, k=9)) + "." for _ in range(12)) for _ in range(80)]
    (tmp_path / "text.txt").write_text("\n\n".join(texts))
    printed = execute(
        "continue_a_bert.ipynb", MODEL=str(model), ACCUMULATE=1, TEXT=str(tmp_path / "text.txt"), STEPS=20,
        WORK=str(tmp_path / "w"), SENTENCES=["the cat [MASK] on the mat."],
        LENGTHS="--config.data.seq_lens=48 --config.data.max_predictions=7",
        MORE=options({"batch_size": 8, "eval.num_batches": 2, "model.dtype": "float32"}),
    )  # fmt: skip
    assert printed.count("the cat [MASK] on the mat.") == 2
    assert (tmp_path / "w/model/model.safetensors").exists()
    assert (tmp_path / "w/run/report.html").exists()


def test_a_command_that_fails_stops_the_notebook(execute, tmp_path):
    with pytest.raises(RuntimeError, match="its last line says why"):
        execute("continue_a_bert.ipynb", MODEL=str(tmp_path), WORK=str(tmp_path / "w"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_clean_and_short(path):
    """nbformat 4.5, https://nbformat.readthedocs.io/en/latest/format_description.html."""
    content = json.loads(path.read_text())
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    cells = content["cells"]
    assert 10 <= len(cells) <= 15
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert cells[0]["cell_type"] == "markdown"
    for cell in cells:
        code = {"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {}
        assert cell == {key: cell[key] for key in ("cell_type", "id", "metadata", "source")} | code
        assert not any(str(pathlib.Path.home()) in line for line in cell["source"])


def test_both_notebooks_have_the_same_helpers():
    first, second = (code_of(path.name) for path in NOTEBOOKS)
    assert first[1:3] == second[1:3]
    assert os.linesep.join(first[0].splitlines()[-7:]) == os.linesep.join(second[0].splitlines()[-7:])
