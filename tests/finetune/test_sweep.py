"""Sweeps: a finished fine-tuning does not run again, an error ends all, and two models are compared fairly."""

import importlib
import json
import pathlib
import re
import shutil
import sys

from helpers import glue_files, small_bert, tiny_finetunings, warm_processes
from jax._src import xla_bridge
import numpy as np
import pytest

from bert_tpu.core import command, config
from bert_tpu.finetune import finetuning, sweep
from bert_tpu.huggingface import hf
from bert_tpu.tasks import glue_submission, metrics
from tools import compare

WORDS = {
    "max_length": 16, "batch_size": 8, "num_steps": 4, "model.dtype": "float32", "optim.learning_rate": 2e-3,
    "log.every_steps": 4, "model.dropout": 0.0, "model.attention_dropout": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    root = tmp_path_factory.mktemp("glue")
    words = WORDS | {"compile_cache": root / "cache"}
    model = small_bert.save(root / "model", small_bert.SHALLOW)
    return str(model), str(glue_files.write_sst2(root / "data")), [f"--config.{k}={v}" for k, v in words.items()]


@pytest.fixture(scope="module")
def done(inputs, tmp_path_factory):
    """A whole run of the command, whose child is another process: its folder, words and output."""
    directory, (model, data, words) = tmp_path_factory.mktemp("suite"), inputs
    options = ["--model", model, "--data", data, "--workdir", str(directory), "--tasks", "sst2", "--seeds", "2"]
    ended = warm_processes.run("tools.glue", [*options, *words])
    assert ended.returncode == 0, ended.stderr
    return directory, [*options, *words], ended


def test_the_table_is_that_of_the_runs(done):
    directory, _, ended = done
    entry = json.loads((directory / "scores.json").read_text())["sst2"]
    scored = json.loads((directory / "sst2" / "scores.json").read_text())
    assert (entry["workdir"], entry["batch_size"], entry["num_steps"]) == ("sst2", 8, 4)
    assert (entry["seeds"], entry["summary"]) == (scored["seeds"], scored["summary"])
    accuracy = scored["summary"]["validation"]["accuracy"]
    low, high = accuracy["interval"]
    assert low <= accuracy["mean"] <= high
    assert f"| mean | {100 * accuracy['mean']:.1f} |" in ended.stdout
    assert (directory / "scores.md").read_text() == ended.stdout


def test_the_best_seed_s_predictions_are_for_the_server(done):
    directory, _, ended = done
    seeds = json.loads((directory / "scores.json").read_text())["sst2"]["seeds"]
    best = max(seeds, key=lambda seed: seeds[seed]["validation"]["accuracy"])
    sent = (directory / "submission" / "SST-2.tsv").read_text()
    assert sent == (directory / "sst2" / "predictions" / f"seed{best}" / "SST-2.tsv").read_text()
    assert [path.name for path in (directory / "submission").iterdir()] == ["SST-2.tsv"]
    lacking = ", ".join(name for name in glue_submission.ROWS if name != "SST-2.tsv")
    assert f"lacks {lacking}" in ended.stderr


def again(words, monkeypatch, name="glue"):
    """Runs the command in this process; a fine-tuning that starts fails the test."""
    monkeypatch.setattr(sweep, "_run", lambda words: pytest.fail("it is done already"))
    monkeypatch.setattr(sys, "argv", [name, *words])
    importlib.import_module(f"tools.{name}").main()


def test_what_is_finished_is_not_done_again(done, monkeypatch, capsys):
    directory, words, ended = done
    again(words, monkeypatch)
    assert capsys.readouterr().out == ended.stdout
    path = directory / "sst2" / sweep.REQUEST
    content = json.loads(path.read_text())
    content["model"]["softmax"] = "exact"  # a key of earlier releases
    path.write_text(json.dumps(content, indent=1))
    again(words, monkeypatch)
    for change in ("--config.epochs=2", "--config.num_steps=5000", "--config.num_steps=0"):
        with pytest.raises(pytest.fail.Exception, match="done already"):
            again([*words, change], monkeypatch)


def test_a_model_with_other_weights_at_the_same_path_is_not_taken_for_the_old_one(done, tmp_path, monkeypatch):
    directory, words, _ = done
    shutil.copytree(words[1], tmp_path / "before")
    try:
        hf.save(words[1], small_bert.params(small_bert.SHALLOW, seed=5), small_bert.SHALLOW, small_bert.VOCAB)
        with pytest.raises(command.UserError, match=r"sst2 was trained from other weights than .* has now"):
            again(words, monkeypatch)
    finally:
        shutil.rmtree(words[1])
        shutil.copytree(tmp_path / "before", words[1])
    again(words, monkeypatch)
    path = directory / "sst2" / "config.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in stored.items() if key != "start"}))  # as in 0.2
    again(words, monkeypatch)
    path.write_text(json.dumps(stored))


def test_no_table_mixes_two_models(done, tmp_path, monkeypatch):
    _, words, _ = done
    other = str(shutil.copytree(words[1], tmp_path / "other"))
    with pytest.raises(command.UserError, match=rf"has the scores of {re.escape(words[1])} in sst2: give another"):
        again(["--model", other, *words[2:], "--tasks", "rte"], monkeypatch)


def test_a_fault_of_a_run_ends_the_sweep_with_its_code(inputs, done, tmp_path, capfd):
    model, data, words = inputs
    for directory, init_from, message in (
        (tmp_path, "nowhere", "there is no nowhere"),
        (done[0] / "sst2", model, "belongs to another config: batch_size is 8 there and 4 here"),
    ):
        asked = [f"--config.data.dir={data}", f"--config.init_from={init_from}", *words, "--config.batch_size=4"]
        with pytest.raises(SystemExit) as ended:
            sweep.tune("configs/glue.py:sst2", directory, asked)
        assert ended.value.code == 1
        assert message in capfd.readouterr().err


def test_a_fault_of_any_task_is_named_before_the_first_one_trains(
    inputs, done, tmp_path, tmp_path_factory, monkeypatch
):
    model, data, words = inputs
    monkeypatch.setattr(xla_bridge, "get_backend", lambda *_: pytest.fail("the devices are the fine-tunings'"))
    base = ["--model", model, "--data", data, "--workdir", str(tmp_path)]
    pair = [model, model, "--workdir", str(tmp_path), f"--config.data.dir={data}"]
    own = [
        f"--config.data.{key}={value}"
        for key, value in tiny_finetunings.classes(tmp_path_factory.mktemp("own"))[1].items()
    ]
    own = [word for word in own if not word.startswith("--config.data.validation")]
    for name, asked, message in (
        ("glue", [*base, "--tasks", "sst2", "rte"], f"neither {data} nor RTE in it has any of train.tsv"),
        ("glue", [*base, "--tasks", "sst2", "--config.seeds=7,8"], "--config.seeds=7,8: give --seeds N"),
        (
            "glue",
            [*base, "--tasks", "sst2", "--grid", "--config.epochs=1"],
            "--config.epochs=1: --grid varies it",
        ),
        (
            "glue",
            [*base, "--tasks", "sst2", "--grid", "--config.num_steps=9"],
            "--config.num_steps=9: --grid varies it",
        ),
        ("glue", [*base, "--tasks", "sst2", "--config.warmup=3"], "config.warmup is 3.0"),
        ("compare", [*pair, "--tasks", "sst2", "rtee"], "rtee is neither a config nor one of GLUE's tasks, cola,"),
        ("compare", [*pair[:4], *own, "--tasks", "configs/pairs.py"], "has no labelled split except train"),
        ("compare", [*pair[:1], "modle", *pair[2:], "--tasks", "sst2"], "there is no modle"),
        ("compare", [*pair, "--tasks", "sst2", "--config.init_from=M"], "name the two models without an option"),
    ):
        with pytest.raises(command.UserError, match=re.escape(message)):
            again([*asked, *words], monkeypatch, name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "sst3"], "there is no task 'sst3' in GLUE"), (["--seeds", "0"], "--seeds 0: give 1 or more"),
        (["--config.batch_sise=3"], "config has no key batch_sise: did you mean batch_size"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_named(tmp_path, monkeypatch, words, message):
    with pytest.raises(command.UserError, match=re.escape(message)):
        again(["--model", "M", "--data", "D", "--workdir", str(tmp_path), *words], monkeypatch)


def test_a_grid_is_the_paper_s_and_its_best_is_taken_and_kept(tmp_path, monkeypatch):
    seen = []

    def tune(name, directory, words):
        cfg = config.load_changed(name, words)
        seen.append((cfg.batch_size, cfg.optim.learning_rate, cfg.epochs))
        score = cfg.batch_size + 1e5 * cfg.optim.learning_rate - cfg.epochs
        (directory / "checkpoints" / "7").mkdir(parents=True)
        (directory / "scores.json").touch()
        return sweep.Result(directory, cfg.to_dict(), {}, {"validation": {"accuracy": {"mean": score}}})

    monkeypatch.setattr(sweep, "tune", tune)
    best = sweep.search_grid("configs/glue.py:rte", tmp_path, ["--config.seeds=0,1"])
    assert sorted(seen) == [(b, r, e) for b in (16, 32) for r in (2e-5, 3e-5, 5e-5) for e in (2.0, 3.0, 4.0)]
    assert best.workdir == tmp_path / "batch32-rate5e-05-epochs2"
    assert list(tmp_path.glob("*/checkpoints/7")) == [best.workdir / "checkpoints" / "7"]
    assert len(list(tmp_path.glob("*/scores.json"))) == len(sweep.GRID)


def test_a_model_compared_with_itself_differs_by_nothing_and_with_a_better_one_by_what_it_is(tmp_path, monkeypatch):
    def run(words):
        cfg = config.load_changed(words[1], words[4:])
        assert finetuning.run(cfg, pathlib.Path(words[3])) == 0

    monkeypatch.setattr(sweep, "_run", run)
    name, rows = tiny_finetunings.classes(tmp_path)
    places = {"init_from": small_bert.save(tmp_path / "model", small_bert.SHALLOW), "compile_cache": tmp_path / "cache"}
    changes = WORDS | {f"data.{key}": path for key, path in rows.items()} | places | {"seeds": "0,1,2"}
    words = [f"--config.{key}={value}" for key, value in changes.items()]
    pair = [sweep.tune(name, tmp_path / side, words) for side in "AB"]
    task = finetuning.load(config.load_changed(name, words)).task
    lines = list(compare.differences("own", [task, task], pair))
    assert [line.split(" | ")[1:3] for line in lines] == [["validation", "accuracy"], ["validation", "macro_f1"]]
    assert all(line.endswith("| +0.0000 | +0.0000 .. +0.0000 |") for line in lines)
    start = sweep.start_sha256(str(places["init_from"]))
    assert compare.Run(name, tmp_path / "A", words, task, start).done() == pair[0]
    with open(rows["validation"], "a") as file:
        file.write('\n{"text": "the cat sat on a mat.", "label": "no"}')
    now = finetuning.check(config.load_changed(name, words))
    with pytest.raises(
        command.UserError, match="A was trained on other data than is there now: give another --workdir"
    ):
        compare.Run(name, tmp_path / "A", words, now, start).done()
    # Of outputs that are all right, B is better by what A lacks of 1.
    labels = task.splits["validation"].labels
    np.save(tmp_path / "B" / "predictions" / "validation.npy", np.tile(np.eye(3, dtype=np.float32)[labels], (3, 1, 1)))
    a, b = pair
    perfect = {"validation": {name: {"mean": 1.0} for name in ("accuracy", "macro_f1")}}
    line = next(iter(compare.differences("own", [task, task], (a, b._replace(summary=perfect)))))
    numbers = [float(x) for x in re.findall(r"[+-]\d\.\d+", line)]
    assert numbers[0] == pytest.approx(1 - a.summary["validation"]["accuracy"]["mean"], abs=1e-4)
    assert numbers[1] <= numbers[0] <= numbers[2]


@pytest.mark.parametrize("seeds", [2, 5])
def test_two_equal_models_differ_in_one_comparison_of_twenty(seeds):
    """Only seeds vary. 600 comparisons have 30 +- 5.3 such by chance."""
    rng = np.random.default_rng(0)
    outside = 0
    for _ in range(600):
        scores = np.repeat(rng.standard_normal((1, 2 * seeds)), 1000, axis=0)
        low, high = metrics.interval(compare._of_pairs(scores))
        outside += not low <= 0 <= high
    assert 12 <= outside <= 48


def test_the_interval_of_a_difference_has_rows_and_seeds_in_it():
    rng = np.random.default_rng(0)
    rows, seeds = rng.normal(0, 0.03, (4000, 1)), rng.normal(0, 0.04, 400)
    drawn = np.concatenate([np.zeros((4000, 400)), 1 + rows + seeds], axis=1)
    spread = compare._of_pairs(drawn)
    assert spread.mean() == pytest.approx(1 + seeds.mean(), abs=0.002)
    assert spread.std() == pytest.approx((0.03**2 + seeds.var() / 400) ** 0.5, rel=0.05)
    few = compare._of_pairs(np.concatenate([np.zeros((4000, 3)), np.tile([-1.0, 0.0, 1.0], (4000, 1))], axis=1))
    # The sample's standard error is the root of 1 / 3, and Student's t of two degrees of freedom 4.303.
    assert metrics.interval(few) == pytest.approx((-2.484, 2.484), rel=0.15)
