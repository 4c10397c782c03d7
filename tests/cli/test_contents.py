"""The command bert-tpu lists every command and starts each; help and errors have the name that was typed."""

import importlib.util
import os
import pkgutil
import subprocess
import sys

from conftest import ROOT
from helpers import warm_processes
import pytest

from bert_tpu.cli import contents
from bert_tpu.core import command
import tools


def run(*words, cwd=ROOT):
    return warm_processes.run("bert_tpu", words, cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "100"})


def test_every_command_is_listed_once_and_exists():
    names = [name for entry in contents.ENTRIES for name in dict.fromkeys(entry.names)]
    assert len(names) == len(set(names))
    files = {module.name for module in pkgutil.iter_modules(tools.__path__) if module.name[0] != "_"}
    listed = {entry.module.removeprefix("bert_tpu.tools.") for entry in contents.ENTRIES}
    assert listed - files == {"bert_tpu.pretrain", "bert_tpu.finetune", "bert_tpu.cli.completion"}
    assert files <= listed
    assert all(importlib.util.find_spec(entry.module) for entry in contents.ENTRIES)


def test_the_list_appears_without_heavy_libraries():
    code = (
        "import sys; sys.argv = ['bert-tpu', '--help']; from bert_tpu.cli import main; main.main(); "
        "assert not {'jax', 'numpy', 'tensorflow', 'ml_collections'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(f"\n  {entry.name} " in done.stdout for entry in contents.ENTRIES)


@pytest.mark.parametrize(
    ("word", "near"),
    [("pretrian", "did you mean pretrain?"), ("tokenizer", "did you mean train-tokenizer?"),
     ("export_pytorc", "did you mean export?"), ("xyz", "bert-tpu --help lists the commands")],
)  # fmt: skip
def test_an_unknown_command_gets_the_most_similar_one(word, near):
    with pytest.raises(command.UserError, match=f"has no command {word}; {near.replace('?', '[?]')}"):
        contents.find(word)


@pytest.mark.parametrize("name", ["fill-mask", "fill_mask"])
def test_help_and_errors_have_the_name_that_was_typed(name, tmp_path):
    done = run(name, "--help", cwd=tmp_path)
    assert done.stdout.startswith("usage: bert-tpu fill-mask ")
    assert "\nbert-tpu fill-mask --model DIR" in done.stdout
    done = run(name, "--model", "nowhere", "a [MASK]", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    help_of_module = warm_processes.run("tools.fill_mask", ["--help"]).stdout
    assert "\npython -m tools.fill_mask --model DIR" in help_of_module
    assert "bert-tpu fill-mask" not in help_of_module


def test_completion_knows_the_options_of_each_command():
    pytest.importorskip("shtab")
    done = run("completion", "bash")
    assert done.returncode == 0, done.stderr
    for typed, proposed in ((["pret"], "pretrain"), (["pretrain", "--wo"], "--workdir"), (["bias", "--ta"], "--tasks")):
        words = ["bert-tpu", *typed]
        asked = f"COMP_WORDS=({' '.join(words)}) COMP_CWORD={len(typed)}"
        asked += f"; _shtab_bert_tpu {words[0]} {words[-1]} {words[-2]}"
        script = f"{done.stdout}\n{asked}; echo ${{COMPREPLY[@]}}"
        assert subprocess.check_output(["bash", "-c", script], text=True).strip() == proposed
