"""A run whose steps stay not finite: it stops, names their batches, and one of them can be computed again."""

import json
import re
import shutil

from helpers import tiny_runs, warm_processes
import jax
import numpy as np
import pytest

from bert_tpu.core import command
from bert_tpu.corpus import store
from bert_tpu.distributed import hosts, mesh
from bert_tpu.pretrain import __main__ as pretrain
from bert_tpu.pretrain import pretraining
from bert_tpu.training import checkpoint, nonfinite, trainer, workdir


@pytest.fixture(scope="module")
def options(corpus_dir, tmp_path_factory):
    changes = {"nonfinite.stop_after": 4, "log.every_steps": 2, "eval.num_batches": 0, "model.dtype": "bfloat16"}
    changes |= {"data.seq_lens": (16,), "data.max_predictions": (4,)}  # one program to compile
    return tiny_runs.keys(corpus_dir, tmp_path_factory) | changes


@pytest.fixture(scope="module")
def sound(options, tmp_path_factory):
    """The config keys and the workdir of a finished run of six steps, in float32, with checkpoints 3 and 6.

    Its rows are pairs from step 4 on.
    """
    keys = options | {"num_steps": 6, "log.every_steps": 1, "model.dtype": "float32", "checkpoint.every_steps": 3}
    keys |= {"data.nsp_share": 0.34}
    directory = tmp_path_factory.mktemp("sound")
    assert pretraining.run(tiny_runs.configured(keys), directory) == 0
    return keys, directory


def poison(directory, options, value):
    """Writes `value` into one parameter of the newest checkpoint, as a faulty chip would before a save."""
    cfg = tiny_runs.configured(options)
    checkpoints = checkpoint.Checkpoints(directory=directory / "checkpoints", **cfg.checkpoint)
    state, meta = trainer.restore_or_init(pretraining.make_job(cfg), mesh.make(jax.devices()), checkpoints)
    leaves, tree = jax.tree.flatten(state.params)
    name = jax.tree_util.keystr(jax.tree.leaves_with_path(state.params)[0][0], simple=True, separator=".")
    broken = np.array(leaves[0])
    broken.flat[5] = value
    leaves[0] = jax.device_put(broken, leaves[0].sharding)
    checkpoints.save(state._replace(step=state.step + 1, params=jax.tree.unflatten(tree, leaves)), meta)
    checkpoints.close()
    return name, int(state.step) + 1


def replayed(options, directory, step):
    words = [*tiny_runs.words(options, directory), f"--replay={step}"]
    done = warm_processes.run("bert_tpu.pretrain", words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def printed_batch(options, step):
    """The SHA-256 that tools.show_batches prints."""
    words = [word for word in tiny_runs.words(options, "") if not word.startswith("--workdir")]
    return json.loads(
        warm_processes.run("tools.show_batches", [*words, f"--steps={step}", "--json", "--rows=0"]).stdout
    )


def test_a_poisoned_run_stops_and_a_replay_names_the_value(options, tmp_path):
    short = options | {"num_steps": 20}
    cfg = tiny_runs.configured(short)
    with pytest.MonkeyPatch.context() as patch:  # a run that was stopped after a few steps
        patch.setattr(hosts.Hosts, "should_stop", lambda self, step, _: step == 5)
        assert pretraining.run(cfg, tmp_path) == 0
    name, first = poison(tmp_path, short, np.inf)
    with pytest.raises(command.UserError, match=rf"4 steps in a row, {first} to {first + 3}, had a loss or a grad"):
        pretraining.run(cfg, tmp_path)
    assert tiny_runs.steps(tmp_path)[-1] == first  # no checkpoint was saved after the sound one

    content = json.loads((tmp_path / "nonfinite.json").read_text())
    assert [skipped["step"] for skipped in content["steps"]] == list(range(first, first + 4))
    assert content["seed"] == 0
    assert content["corpus"]["sha256"] == json.loads((tmp_path / "config.json").read_text())["corpus"]["sha256"]
    batch = printed_batch(short, first)
    assert {key: batch[key] for key in ("step", "seq_len", "sha256")} == content["steps"][0]

    line = tiny_runs.metrics(tmp_path)[-1]
    assert "loss" not in line
    assert line["skipped"] == 2

    stdout = replayed(short, tmp_path, first + 1)
    assert f"parameters of {tmp_path / 'nonfinite'}" in stdout
    assert f"the first is {name}[" in stdout
    assert "= inf" in stdout
    assert stdout.count("rows: 8 of 8 not finite") == 2  # in bfloat16 and in float32


def test_replay_of_a_sound_step_is_the_step_that_was(sound):
    """In float32 the loss and the gradient's norm are those in the run's log."""
    keys, directory = sound
    stdout = replayed(keys, directory, 3)
    assert f"parameters of {directory / 'checkpoints' / '3'}\n" in stdout
    (line,) = [line for line in tiny_runs.metrics(directory) if line["step"] == 4]
    assert "nsp" not in stdout  # no row is a pair
    for name in ("mlm_loss", "mlm_accuracy"):
        values = re.findall(rf"^  {name} +(\S+)$", stdout, re.MULTILINE)
        assert [float(value) for value in values] == [pytest.approx(line[name], rel=1e-4)] * 2
    norms = [float(value) for value in re.findall(r"gradient norm +(\S+)", stdout)]
    assert norms == [pytest.approx(line["grad_norm"], rel=1e-4)] * 2
    assert "all" in stdout
    assert "0 of 8 not finite" in stdout
    stdout = replayed(keys, directory, 4)
    assert "which lack the 1 update before" in stdout
    assert re.search(r"^  nsp_loss +0\.\d+$", stdout, re.MULTILINE)
    with pytest.raises(command.UserError, match="no checkpoint at or before step 2: its"):
        nonfinite.params_of(directory, 2)


@pytest.mark.parametrize("is_run", [True, False])
def test_an_old_run_is_refused_before_its_old_corpus_is_and_its_replay_too(sound, tmp_path, is_run):
    """A corpus of format 1 would be refused with another sentence, which alone does not help."""
    cfg, directory = tiny_runs.configured(sound[0]), shutil.copytree(sound[1], tmp_path / "run")
    (directory / workdir.FORMAT_FILE).unlink()
    cfg.data.dir = str(old_corpus(cfg.data.dir, tmp_path / "old"))
    with pytest.raises(command.UserError, match="was begun by an earlier release, whose batches or optimizer state"):
        pretraining.run(cfg, directory) if is_run else pretrain.replay_step(cfg, directory, 4)


def old_corpus(directory, copy):
    shutil.copytree(directory, copy)
    content = json.loads((copy / "corpus.json").read_text())
    (copy / "corpus.json").write_text(json.dumps(content | {"format": 1}))
    with pytest.raises(command.UserError, match="is a corpus of format 1"):
        store.read(copy)
    return copy


@pytest.mark.parametrize("key", ["seed", "batch_size", "data.mask_rate"])
def test_replay_refuses_a_config_whose_batches_are_others(sound, key):
    keys, directory = sound
    other = tiny_runs.configured(keys, **{key: {"seed": 1, "batch_size": 16, "data.mask_rate": 0.3}[key]})
    with pytest.raises(command.UserError, match=f"belongs to another config: {key} is"):
        pretrain.replay_step(other, directory, 4)


def test_skips_in_a_row_exhaust_and_a_sound_step_forgives():
    skipped_steps = nonfinite.SkippedSteps(stop_after=3)
    for finished, skipped in ((1, 1), (2, 1), (3, 0), (4, 1), (5, 1)):
        skipped_steps.count(finished, 16, {"skipped": (skipped, 1)})
    assert not skipped_steps.is_exhausted()
    assert skipped_steps.is_last_chance()
    skipped_steps.count(6, 32, {"skipped": (1.0, 1)})
    assert skipped_steps.is_exhausted()
    assert skipped_steps.steps == [(3, 16), (4, 16), (5, 32)]
