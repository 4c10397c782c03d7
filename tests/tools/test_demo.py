"""The demo's commands take the options that it gives them; a command that fails ends it with that command's error."""

import argparse
import multiprocessing
from pathlib import Path

import pytest

from bert_tpu.cli import completion, contents
from bert_tpu.core import config
from tools import demo


@pytest.mark.parametrize("own", [{}, {"text": "*.txt", "task": Path("task"), "bias": "benchmarks"}])
def test_each_command_takes_its_words(own, tmp_path):
    args = argparse.Namespace(**{"out": tmp_path, "text": None, "task": None, "bias": None} | own)
    stages = demo.stages(args, args.text or "docs.txt", tmp_path / "docs")
    collected = {stage.name for stage in stages} & {"collect-docs", "collect-task"}
    assert len(collected) == (0 if own else 2)
    for stage in stages:
        changes, words = config.split_argv([str(word) for word in stage.words])
        parser = completion.options_of(contents.find(stage.name))
        parsed = argparse.ArgumentParser.parse_known_args(parser, words)
        assert parsed[1] == []
        if changes:
            config.load_changed(parsed[0].config, changes)


def test_a_failing_command_ends_the_demo_with_its_error(tmp_path, capfd):
    stage = demo.Stage("result", "fill-mask", ["--model", tmp_path / "nowhere", "a [MASK]"])
    with pytest.raises(SystemExit) as ended:
        demo._run(multiprocessing.get_context("spawn"), stage, tmp_path / "log.txt")
    assert ended.value.code == 1
    lines = capfd.readouterr().err.splitlines()
    assert lines[0].startswith(f"error: there is no {tmp_path}/nowhere")
    assert lines[1:] == ["the demo stops here; bert-tpu demo with the same options continues it"]
    assert lines[0] in (tmp_path / "log.txt").read_text()


def test_another_text_task_or_benchmark_has_its_own_folder(tmp_path):
    assert demo.name_of("a/*.txt") != demo.name_of("b/*.txt")


def test_parts_without_their_packages_are_left_out_by_name():
    planned = [demo.Stage("one", "embed", []), demo.Stage("two", "onnx", [], needs=("no_such_package", "json"))]
    assert demo.divide(planned[:1]) == (planned[:1], "")
    possible, sentence = demo.divide(planned)
    assert possible == planned[:1]
    assert sentence.startswith("left out for lack of no_such_package: two; pip install 'bert_tpu[demo]'")
