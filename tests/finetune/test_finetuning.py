"""Fine-tuning runs: several seeds at once in the loop of pretraining, with scores that match the predictions."""

import json
import pathlib
import re
import signal

from helpers import glue_files, local_pod, small_bert, tiny_runs, warm_processes
import jax
import numpy as np
import pytest

from bert_tpu.core import command, config
from bert_tpu.distributed import hosts
from bert_tpu.distributed import mesh as meshes
from bert_tpu.finetune import evaluation, finetuning, heads
from bert_tpu.huggingface import hf, pretrained
from bert_tpu.model import flops
from bert_tpu.monitoring import versions
from bert_tpu.training import checkpoint, train_step, trainer
from configs import glue

STEPS = 36
CHANGES = {
    "max_length": 16, "batch_size": 8, "num_steps": STEPS, "seeds": (0, 1), "model.dtype": "float32",
    "model.dropout": 0.1, "optim.learning_rate": 2e-3, "checkpoint.every_steps": 12, "eval.every_steps": STEPS // 2,
    "log.every_steps": 12,
}  # fmt: skip


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    root = tmp_path_factory.mktemp("tuned")
    places = {
        "init_from": small_bert.save(root / "model", small_bert.SHALLOW),
        "data.dir": glue_files.write_sst2(root / "data"),
        "compile_cache": root / "cache",
    }
    return CHANGES | {key: str(path) for key, path in places.items()}


def configured(keys, **changes):
    cfg = glue.get_config("sst2")
    cfg.update_from_flattened_dict(keys | changes)
    return cfg


@pytest.fixture(scope="module")
def whole(keys, tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    assert finetuning.run(configured(keys), directory) == 0
    return directory


def arrays(directory):
    with checkpoint.ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(directory / "checkpoints" / str(STEPS) / "params")


def test_scores_are_those_of_the_answers_on_disk_and_above_the_majority(keys, whole):
    content = json.loads((whole / "scores.json").read_text())
    lines = (whole / "metrics.jsonl").read_text().splitlines()
    evals = [line for line in map(json.loads, lines) if line["kind"] == "eval"]
    assert [(line["step"], line["split"], line["seed"]) for line in evals] == [
        (step, "validation", seed) for step in (STEPS // 2, STEPS) for seed in (0, 1)
    ]
    dev = pathlib.Path(keys["data.dir"]) / "SST-2" / "dev.tsv"
    labels = [line.split("\t")[1] for line in dev.read_text().splitlines()[1:]]
    for seed in ("0", "1"):
        answers = (whole / "predictions" / f"seed{seed}" / "sst2-validation.tsv").read_text().splitlines()[1:]
        share = np.mean([a.split("\t")[1] == label for a, label in zip(answers, labels, strict=True)])
        assert content["seeds"][seed]["validation"]["accuracy"] == pytest.approx(share)
        assert share > 0.6  # of two classes of equal size
        assert len((whole / "predictions" / f"seed{seed}" / "SST-2.tsv").read_text().splitlines()) == 21
    scores = [content["seeds"][seed]["validation"]["accuracy"] for seed in ("0", "1")]
    summary = content["summary"]["validation"]["accuracy"]
    assert summary["mean"] == pytest.approx(np.mean(scores))
    assert summary["std"] == pytest.approx(np.std(scores, ddof=1))
    assert summary["best"] == max(scores)
    low, high = summary["interval"]
    assert low <= summary["mean"] <= high
    assert content["commonest_class"]["validation"] == {"accuracy": 0.5}
    outputs = np.load(whole / "predictions" / "validation.npy")
    assert [float(np.mean(values.argmax(1) == np.array(labels, int))) for values in outputs] == pytest.approx(scores)


def test_a_run_that_was_stopped_ends_with_the_same_bits(keys, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(hosts.Hosts, "should_stop", lambda self, step, _: step == 8)
        assert finetuning.run(configured(keys), tmp_path) == 0
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["8"]
    assert finetuning.run(configured(keys), tmp_path) == 0
    jax.tree.map(np.testing.assert_array_equal, arrays(tmp_path), arrays(whole))
    assert (tmp_path / "scores.json").read_text() == (whole / "scores.json").read_text()


def test_the_way_to_compute_may_change_between_starts_and_the_workdir_says_when(keys, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(hosts.Hosts, "should_stop", lambda self, step, _: step == 8)
        assert finetuning.run(configured(keys), tmp_path) == 0
    assert finetuning.run(configured(keys, **{"model.remat": True}), tmp_path) == 0
    entries = versions.read(tmp_path)
    assert [(entry["step"], entry["model.remat"]) for entry in entries] == [(0, False), (8, True)]


def test_a_training_that_diverges_says_how_to_fix_it_and_has_no_scores(keys, tmp_path):
    wild = {"optim.learning_rate": 1e30, "optim.clip_norm": 0.0, "optim.schedule": "constant", "log.every_steps": 1}
    for number, message in (
        (8, "seed 0 has outputs for validation that are not finite"),
        (40, "steps in a row, 2 to 4, had a"),
    ):
        cfg = configured(keys, **wild, **{"num_steps": number, "nonfinite.stop_after": 3 if number > 8 else 0})
        with pytest.raises(
            command.UserError, match=rf"{message}.* a lower optim.learning_rate .*in a new --workdir"
        ) as met:
            finetuning.run(cfg, tmp_path / str(number))
        assert "--replay" not in str(met.value)
        assert not (tmp_path / str(number) / "scores.json").exists()


def steps(keys, devices, **changes):
    """Parameters after three steps."""
    setup = finetuning.load(configured(keys, **{"model.dropout": 0.0, "model.attention_dropout": 0.0} | changes))
    job, mesh = finetuning.make_job(setup.cfg, setup.model, setup.feed), meshes.make(jax.devices()[:devices])
    state, _ = trainer.restore_or_init(job, mesh, Nothing(), finetuning.training(setup, "").first_params)
    step = train_step.bound_step(job, mesh, setup.cfg.max_length)
    for _, (_, batch) in zip(range(3), setup.feed.batches(0), strict=False):
        state, _ = step(state, meshes.put_batch(batch, mesh))
    return jax.device_get(state.params)


def test_step_0_has_the_model_s_encoder_and_a_head_of_each_seed(keys):
    setup = finetuning.load(configured(keys))
    job, mesh = finetuning.make_job(setup.cfg, setup.model, setup.feed), meshes.make(jax.devices())
    params = finetuning._first_params(setup, hosts.Hosts(), trainer.abstract_state(job, mesh).params)
    for seed in (0, 1):
        word = params["embeddings"]["word"][seed, : small_bert.SECTION["vocab_size"]]
        np.testing.assert_array_equal(word, small_bert.params()["embeddings"]["word"])
        # The seed's own, as it would be drawn alone.
        alone = heads.init_head(setup.model, jax.random.key(seed))
        np.testing.assert_array_equal(params["head"]["kernel"][seed], alone["kernel"])
    assert not np.allclose(*params["head"]["kernel"])


def test_the_work_of_muon_counts_for_each_seed(keys):
    jobs = {}
    for name in ("adamw", "muon"):
        setup = finetuning.load(configured(keys, **{"optim.name": name}))
        jobs[name] = finetuning.make_job(setup.cfg, setup.model, setup.feed)
    update = len(setup.cfg.seeds) * flops.muon(setup.model.bert)
    assert jobs["muon"].update_flops == update > 0 == jobs["adamw"].update_flops
    [n] = jobs["muon"].flops
    assert jobs["muon"].flops[n] - jobs["adamw"].flops[n] == update


def test_of_a_model_without_a_pooler_each_seed_draws_its_own(keys):
    setup = finetuning.load(configured(keys))
    bare = {key: value for key, value in setup.base.params.items() if key != "pooler"}
    assert not finetuning.drawn_note(setup)
    setup = setup._replace(base=setup.base._replace(params=bare, absent=("pooler",)))
    assert finetuning.drawn_note(setup).endswith(" has no pooler: each seed draws its own")
    assert not finetuning.drawn_note(setup._replace(task=setup.task._replace(head="span")))
    drawn = [finetuning.first_params(setup, seed) for seed in (0, 1, 0)]
    assert not np.allclose(drawn[0]["pooler"]["kernel"], drawn[1]["pooler"]["kernel"])
    jax.tree.map(np.testing.assert_array_equal, drawn[0], drawn[2])
    np.testing.assert_array_equal(drawn[1]["embeddings"]["word"], bare["embeddings"]["word"])


class Nothing:
    """A run's checkpoints before there is one."""

    def restore(self, like):
        return None


def test_seeds_that_train_at_once_are_each_the_run_alone_on_any_number_of_devices(keys):
    both = steps(keys, 1)
    for seed in (0, 1):
        ours = jax.tree.map(lambda x, of=seed: x[of], both)
        alone = jax.tree.map(lambda x: x[0], steps(keys, 1, seeds=(seed,)))
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), ours, alone)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), both, steps(keys, 8))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), both, steps(keys, 2, accumulate=4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_from": ""}, "no model: give --config.init_from=DIR"),
        ({"init_from": "nowhere"}, "there is no nowhere: give a Hugging Face directory"),
        ({"seeds": (1, 1)}, r"config.seeds is \(1, 1\): give different whole numbers"),
        ({"max_length": 4}, "max_length 4 has no room for a pair"),
        ({"max_length": 64}, "max_length is 64, but .* has 48 positions: give --config.max_length=48 or less"),
        ({"reader": "glu"}, "config.reader 'glu' is not one of glue, ner, squad, table"),
        ({"data.task": "sst3"}, "there is no task 'sst3' in GLUE"),
        (
            {"seeds": (0, 2**31 - 1)},
            r"config.seeds is \(0, 2147483647\): give different whole numbers below 2,147,483,647",
        ),
        ({"seeds": (-1,)}, r"config.seeds is \(-1,\): give"),
        ({"batch_size": 0}, "config.batch_size is 0"),
        ({"optim.clip_norm": -1.0}, "config.optim.clip_norm is -1.0: give 0 or more"),
        ({"optim.weight_decay": -0.1}, "config.optim.weight_decay is -0.1: give 0 or more"),
        ({"optim.learning_rate": float("nan")}, "config.optim.learning_rate is nan: give 0 or more"),
        ({"optim.b2": 1.0}, "optim.b2 is 1.0: give a share from 0 to below 1"),
        ({"epochs": float("inf")}, "config.epochs is inf: give 0 or more"),
        ({"epochs": 0.0, "num_steps": 0}, "config.epochs is 0, and so is config.num_steps: give one of them"),
        ({"warmup": 100.0}, "config.warmup is 100.0: it is a share of the steps"),
    ],
)
def test_a_fault_is_named_before_any_work(keys, tmp_path, changes, message):
    with pytest.raises(command.UserError, match=message):
        finetuning.run(configured(keys, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["train", "dev"])
def test_other_data_in_the_same_workdir_are_refused(keys, whole, tmp_path, split):
    other = glue_files.write_sst2(tmp_path / "other")
    path = other / "SST-2" / f"{split}.tsv"
    path.write_text(path.read_text().replace("dog", "cat"))
    with pytest.raises(command.UserError, match=f"task.sha256.{'train' if split == 'train' else 'validation'} is"):
        finetuning.run(configured(keys, **{"data.dir": str(other)}), whole)


def test_hosts_that_have_other_rows_to_be_judged_on_say_so_before_they_wait_for_each_other(keys, tmp_path):
    other = glue_files.write_sst2(tmp_path / "other")
    with (other / "SST-2" / "dev.tsv").open("a") as file:
        file.write("the dog \t1\n" * 600)
    words = ["--config=configs/glue.py:sst2", f"--workdir={tmp_path / 'run'}"]
    words += [f"--config.{key}={value}" for key, value in keys.items()]
    each = ([], [f"--config.data.dir={other}"])
    with local_pod.Pod(
        tmp_path / "logs", words, hosts=2, devices=1, each=each.__getitem__, program="bert_tpu.finetune"
    ) as pod:
        assert pod.exit_codes() == [1, 1]
    assert "task.sha256.validation" in pod.stderr(0)


def test_hosts_that_start_from_other_weights_say_so(keys, tmp_path):
    section = small_bert.SHALLOW
    hf.save(tmp_path / "other", small_bert.params(section, seed=1), section, small_bert.VOCAB)
    words = ["--config=configs/glue.py:sst2", f"--workdir={tmp_path / 'run'}"]
    words += [f"--config.{key}={value}" for key, value in keys.items()]
    each = ([], [f"--config.init_from={tmp_path / 'other'}"])
    with local_pod.Pod(
        tmp_path / "logs", words, hosts=2, devices=1, each=each.__getitem__, program="bert_tpu.finetune"
    ) as pod:
        assert pod.exit_codes() == [1, 1]
    assert "differs: start.sha256 is" in pod.stderr(0)


@pytest.mark.parametrize("step", ["", "checkpoints/7"])
def test_the_sizes_and_the_tokenizer_are_those_of_the_run_that_the_weights_are_of(keys, tmp_path, step):
    section = small_bert.SHALLOW | {"num_heads": 2, "activation": "gelu_new", "layer_norm_eps": 1e-5}
    run = small_bert.workdir(tmp_path / "run", section)
    setup = finetuning.load(configured(keys, init_from=str(run / step)))
    assert {key: getattr(setup.model.bert, key) for key in pretrained.MEANING}.items() <= section.items()
    assert setup.base.vocab == small_bert.VOCAB


def test_rows_of_two_segments_are_refused_by_a_model_that_knows_one(keys, tmp_path):
    model = small_bert.save(tmp_path / "model", small_bert.SHALLOW | {"type_vocab_size": 1})
    finetuning.check(configured(keys, init_from=str(model)))  # single texts
    (tmp_path / "pairs.jsonl").write_text(
        '{"a": "the cat", "b": "the dog", "label": "x"}\n{"a": "it", "b": "he", "label": "y"}\n'
    )
    cfg = config.load("configs/pairs.py")
    file = str(tmp_path / "pairs.jsonl")
    data = {"train": file, "validation": file, "text": "a", "text_pair": "b"}
    cfg.update_from_flattened_dict({f"data.{key}": value for key, value in data.items()} | {"init_from": str(model)})
    cfg.max_length = 48
    with pytest.raises(command.UserError, match=r"have 2 segments, but .* has only 1"):
        finetuning.check(cfg)


def test_the_command_says_what_it_does(keys, tmp_path):
    words = [f"--config.{key}={value}" for key, value in (keys | {"num_steps": 2}).items()]
    done = warm_processes.run(
        "bert_tpu.finetune", ["--config=configs/glue.py:sst2", f"--workdir={tmp_path / 'run'}", *words]
    )
    assert done.returncode == 0, done.stderr
    assert "validation: accuracy 0." in done.stderr
    assert re.search(
        r"\n +train  validation  test\nrows .* 20\nnegative .*%\npositive .*%\n\(no label\) +all\n", done.stderr
    )
    assert re.search(r"predicting test \.\.\.\n.*\ntest: 100%.* 20.0/20.0 ", done.stderr)
    assert "(mean of 2 seeds; always the commonest class: accuracy 0.5000)" in done.stderr


def test_two_hosts_train_and_judge_as_one_does_and_what_they_save_goes_on_alone(keys, whole, tmp_path):
    run = tmp_path / "run"
    words = ["--config=configs/glue.py:sst2", f"--workdir={run}", "--config.log.every_steps=1"]
    words += [f"--config.{key}={value}" for key, value in keys.items() if key != "log.every_steps"]
    with local_pod.Pod(tmp_path / "a", words, hosts=2, devices=2, program="bert_tpu.finetune") as pod:
        pod.wait_until(lambda: (run / "checkpoints").exists() and tiny_runs.steps(run))
        pod.send(1, signal.SIGTERM)
        assert pod.exit_codes() == [143, 143]
    assert 12 <= tiny_runs.steps(run)[-1] < STEPS
    with local_pod.Pod(tmp_path / "b", words, hosts=2, devices=2, program="bert_tpu.finetune") as pod:
        assert pod.exit_codes() == [0, 0]
    assert "validation: accuracy" in pod.stderr(0)
    assert pod.stderr(1) == ""
    # As on one host: the same rows are learnt from and judged, and rounding grows from step to step.
    ours, alone = (np.load(place / "predictions" / "validation.npy") for place in (run, whole))
    np.testing.assert_allclose(ours, alone, atol=0.05 * np.abs(alone).max())


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("glue", "no data: give --config.data.dir=DIR"), ("ner", "no data: give --config.data.dir=DIR"),
        ("squad", "no train file: give --config.data.train=FILE"),
        ("pairs", "a task needs a train file: give --config.data.train=FILE"),
    ],
)  # fmt: skip
def test_data_that_nobody_named_are_asked_for_by_their_flag(keys, file, message):
    cfg = config.load(f"configs/{file}.py").unlock()
    cfg.init_from, cfg.max_length = keys["init_from"], 48
    with pytest.raises(command.UserError, match=message):
        finetuning.check(cfg)


@pytest.mark.parametrize("file", ["squad", "ner", "pairs", "glue"])
def test_configs_fit_their_readers(file):
    cfg = config.load(f"configs/{file}.py")
    with pytest.raises(command.UserError, match="no model: give"):
        finetuning.check(cfg)


def test_the_interval_is_that_of_the_mean_over_the_seeds():
    """Two seeds that err on opposite rows have a mean that does not depend on the rows drawn."""
    drawn = np.linspace(0, 1, 1001)
    scores = {seed: {"validation": {"accuracy": score}} for seed, score in enumerate((0.4, 0.6))}
    summary = evaluation.summary(scores, {"validation": {"accuracy": np.stack([drawn, 1 - drawn], axis=1)}})
    assert summary["validation"]["accuracy"]["interval"] == pytest.approx((0.5, 0.5))
